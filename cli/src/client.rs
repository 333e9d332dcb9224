//! The way to the server: HTTP/1 on the Unix socket in its data directory.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use dawnwatch_proto::api::Problem;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::fail::{BUG, DATA, DENIED, Fail, UNREACHABLE, USAGE};

/// How long one answer may take: the slowest page is far below a second, so that later means that the server hangs.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Largest answer that is taken: a year of incidents of a large fleet has room in it.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A server, by the socket it listens on.
#[derive(Debug)]
pub(crate) struct Server {
    /// Path of the socket.
    pub(crate) socket: PathBuf,
}

/// A document of the API as it came.
#[derive(Debug, Clone)]
pub(crate) struct Document(pub(crate) String);

impl Document {
    /// Reads the document as what the request is answered with.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, Fail> {
        serde_json::from_str(&self.0).map_err(|error| {
            let text = format!(
                "cannot read the server's answer: {error}; are server and command of the same version?"
            );
            Fail::new(BUG, text)
        })
    }

    /// The document as text that is safe on a terminal: what a terminal would obey is escaped as JSON escapes it.
    pub(crate) fn json(&self) -> String {
        let mut out = String::with_capacity(self.0.len() + 1);
        for c in self.0.trim_end().chars() {
            let hidden = c > '~'
                && dawnwatch_proto::untrusted::term(c.encode_utf8(&mut [0; 4])).len()
                    != c.len_utf8();
            if hidden {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            } else {
                out.push(c);
            }
        }
        out.push('\n');
        out
    }
}

impl Server {
    /// Asks for a document.
    pub(crate) fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Document, Fail> {
        let mut target = format!("/api/v1/{path}");
        for (i, (key, value)) in query.iter().enumerate() {
            target.push(if i == 0 { '?' } else { '&' });
            target.push_str(key);
            target.push('=');
            target.push_str(&escape(value));
        }
        self.request(Method::GET, &target, Bytes::new())
    }

    /// Does something, and returns what came of it.
    pub(crate) fn post<T: Serialize>(&self, path: &str, body: &T) -> Result<Document, Fail> {
        let body = serde_json::to_vec(body)
            .map_err(|error| Fail::new(BUG, format!("cannot write the request: {error}")))?;
        self.request(Method::POST, &format!("/api/v1/{path}"), body.into())
    }

    fn request(&self, method: Method, target: &str, body: Bytes) -> Result<Document, Fail> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Fail::new(BUG, format!("cannot start: {error}")))?;
        runtime.block_on(async {
            tokio::time::timeout(ANSWER_TIMEOUT, self.exchange(method, target, body))
                .await
                .unwrap_or_else(|_| {
                    let seconds = ANSWER_TIMEOUT.as_secs();
                    let why = format!("no answer within {seconds} s; look at the server's log");
                    Err(self.lost(&why))
                })
        })
    }

    async fn exchange(&self, method: Method, target: &str, body: Bytes) -> Result<Document, Fail> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|error| self.unreachable(&error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.lost(&error.to_string()))?;
        let driver = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header("host", "dawnwatch")
            .header("content-type", "application/json")
            .body(Full::new(body))
            .map_err(|error| Fail::new(BUG, format!("request {target}: {error}")))?;
        let answer = sender
            .send_request(request)
            .await
            .map_err(|error| self.lost(&error.to_string()))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(|error| self.lost(&error.to_string()))?;
        driver.abort();
        let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
        if status.is_success() {
            Ok(Document(text))
        } else {
            Err(refusal(status, target, &text))
        }
    }

    fn unreachable(&self, error: &std::io::Error) -> Fail {
        let socket = self.socket.display();
        if error.kind() == ErrorKind::PermissionDenied {
            let text = format!(
                "no permission to talk to the server at {socket}: run as root or as the server's user: sudo dawnwatch ..."
            );
            return Fail::new(DENIED, text);
        }
        let text = format!(
            "cannot reach the server at {socket}: {error}. Is dawnwatch-server running? Start it with: \
             dawnwatch-server run\nIf its data is elsewhere: dawnwatch --data DIR, or set DAWNWATCH_DATA"
        );
        Fail::new(UNREACHABLE, text)
    }

    fn lost(&self, why: &str) -> Fail {
        let text = format!(
            "the server at {} did not answer: {why}",
            self.socket.display()
        );
        Fail::new(UNREACHABLE, text)
    }
}

/// A [`Problem`] as the command tells it, with the exit code that fits the status.
fn refusal(status: StatusCode, target: &str, body: &str) -> Fail {
    let code = match status.as_u16() {
        401 | 403 => DENIED,
        405 | 413 | 414 | 415 => USAGE,
        400..=499 => DATA,
        502..=504 => UNREACHABLE,
        _ => BUG,
    };
    match serde_json::from_str::<Problem>(body) {
        Ok(problem) => Fail::new(code, problem.error).suggest(&problem.suggestions),
        Err(_) => Fail::new(code, format!("the server answered {target} with {status}")),
    }
}

/// Percent-encodes everything but the unreserved characters of RFC 3986.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_escaped() {
        for (text, want) in [
            ("node_load1", "node_load1"),
            ("a{b=\"c d\"}", "a%7Bb%3D%22c%20d%22%7D"),
            ("é&?/", "%C3%A9%26%3F%2F"),
        ] {
            assert_eq!(escape(text), want);
        }
    }

    #[test]
    fn json_reaches_the_terminal_inert_and_means_the_same() {
        let document = Document("{\"name\": \"a\u{9b}1m\u{202e}é\u{7f}😀\"}".to_owned());
        let shown = document.json();
        assert_eq!(shown, "{\"name\": \"a\\u009b1m\\u202eé\\u007f😀\"}\n");
        let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(read(&shown), read(&document.0));
    }

    #[test]
    fn a_refusal_keeps_the_servers_sentence() {
        let problem = r#"{"error":"no incident I-9","suggestions":["I-8"]}"#;
        for (status, body, code, text) in [
            (404, problem, 65, "no incident I-9; did you mean I-8?"),
            (
                403,
                r#"{"error":"only admins make tokens"}"#,
                77,
                "only admins make tokens",
            ),
            (503, r#"{"error":"starting"}"#, 69, "starting"),
            (
                500,
                "<html>",
                70,
                "the server answered /x with 500 Internal Server Error",
            ),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(
                refusal(status, "/x", body),
                Fail::new(code, text),
                "{status}"
            );
        }
    }

    #[test]
    fn no_permission_is_told_from_no_server() {
        let server = Server {
            socket: "/data/api.sock".into(),
        };
        let fail = |kind: ErrorKind| server.unreachable(&kind.into());
        assert_eq!(fail(ErrorKind::PermissionDenied).code, 77);
        assert_eq!(fail(ErrorKind::ConnectionRefused).code, 69);
        assert!(
            fail(ErrorKind::NotFound)
                .text
                .starts_with("cannot reach the server at /data/api.sock: ")
        );
    }
}
