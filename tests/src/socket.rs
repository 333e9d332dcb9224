//! Asking a server over the API's Unix socket.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::de::DeserializeOwned;

/// A server that does not answer within this is broken.
const WITHIN: Duration = Duration::from_secs(20);

/// One HTTP request over the API's Unix socket.
///
/// # Errors
/// Where the server is not there, or answers with a problem.
pub fn request<T: DeserializeOwned>(
    data: &Path,
    method: &str,
    path: &str,
    body: &str,
) -> anyhow::Result<T> {
    let mut stream = UnixStream::connect(data.join("api.sock"))?;
    stream.set_read_timeout(Some(WITHIN))?;
    // At once: what comes after the end of an answer that needed no body would reset the connection.
    let asked = format!(
        "{method} {path} HTTP/1.0\r\nhost: dawnwatch\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(asked.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    anyhow::ensure!(
        head.contains(" 200 "),
        "{path}: {} {body}",
        head.lines().next().unwrap_or("")
    );
    Ok(serde_json::from_str(body)?)
}
