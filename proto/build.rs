//! Compiles the wire messages without a system protoc.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=dawnwatch/v1/dawnwatch.proto");
    let files = protox::compile(["dawnwatch/v1/dawnwatch.proto"], ["."])?;
    tonic_prost_build::configure().compile_fds(files)?;
    Ok(())
}
