//! The server takes as many descriptors as it may have, not as many as it was started with.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

#[test]
fn a_server_takes_all_descriptors_that_it_may_have() {
    let data = tempfile::tempdir().unwrap();
    let mut server = Command::new("prlimit")
        .args(["--nofile=256:2048", env!("CARGO_BIN_EXE_dawnwatch-server")])
        .arg("--data")
        .arg(data.path())
        .args(["run", "--listen", "127.0.0.1:0", "--web", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(server.stdout.take().unwrap()).lines();
    let is_ready = said.map_while(Result::ok).any(|line| line == "ready");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.id())).unwrap();
    server.kill().unwrap();
    let told = std::io::read_to_string(server.stderr.take().unwrap()).unwrap();
    server.wait().unwrap();
    assert!(is_ready, "{told}");
    let files = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let files: Vec<&str> = files.unwrap().split_whitespace().collect();
    assert_eq!(files[3..5], ["2048", "2048"]);
    assert!(
        told.contains("no more than 2048 files may be open"),
        "{told}"
    );
}
