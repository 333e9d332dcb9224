//! The agent that is handed out to hosts which have none: one file over the agents' port, and the line that fetches it.
//!
//! | request | answer |
//! |---|---|
//! | `GET /install/agent/ARCH` | the agent's binary, where ARCH is what it was built for |
//! | `GET /install/SHA256SUMS` | its SHA-256 and `dawnwatch-agent-ARCH`, as `sha256sum -c` reads it |
//!
//! Nothing of a request names a file: there is one file, and the server's configuration says which. Whoever fetches it need
//! not trust the connection (`curl -k`): the hash in the pasted line is what is trusted, and the line came by another way.
//! A binary that was replaced since the line was made has another hash, so the line refuses and a fresh one is needed.

mod line;

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path as InPath, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use ring::digest::{Context, SHA256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;

pub use line::install_line;

/// Largest file that is handed out: an agent of a debug build stays far under it, and a wrong path to a disk image is refused.
const AGENT_BYTES_MAX: u64 = 256 << 20;

/// Downloads at a time: each holds some 200 KiB, and further ones wait for a place.
const DOWNLOADS_MAX: usize = 32;

/// A download waits this long for a place; the pasted line's curl then tries again by itself.
const PLACE_WITHIN: Duration = Duration::from_secs(60);

/// A host that takes no part of the file for this long has gone, and gives its place back.
const PART_WITHIN: Duration = Duration::from_secs(30);

/// Bytes read and sent at a time.
const PART_BYTES: usize = 64 * 1024;

/// Parts that wait in one download.
const PARTS_WAITING: usize = 2;

/// The file that is handed out, and what is known of it.
#[derive(Debug)]
pub struct Handout {
    path: Option<PathBuf>,
    known: Mutex<Option<(Stamp, Offer)>>,
    places: Arc<Semaphore>,
}

/// What is handed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The machine it was built for, as `uname -m` names it.
    pub arch: &'static str,
    /// SHA-256 of the file, in lower-case hexadecimal.
    pub sha256: String,
    /// Its length in bytes.
    pub bytes: u64,
}

/// Why there is nothing to hand out.
#[derive(Debug, thiserror::Error)]
pub enum NoAgent {
    /// No file was found where packages and builds put it.
    #[error(
        "this server has no agent to hand out: install the package dawnwatch-server, or name the binary in dawnwatch.toml: [server] agent_binary = \"/path/to/dawnwatch-agent\""
    )]
    None,
    /// The file cannot be read.
    #[error("cannot read the agent to hand out, {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is something else.
    #[error("{} is no agent to hand out: {why}", path.display())]
    Odd {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// What changes when a file is replaced or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified_s: i64,
    modified_ns: i64,
}

impl Handout {
    /// Hands out this file; where none is named, the one that lies where packages and builds put it.
    #[must_use]
    pub fn new(named: Option<PathBuf>) -> Handout {
        let path = named.or_else(|| {
            let server = std::env::current_exe().ok()?;
            let dir = server.parent()?;
            // The server's package keeps a copy apart from /usr/bin, where the agent's own package puts one.
            let places = ["../lib/dawnwatch/dawnwatch-agent", "dawnwatch-agent"];
            places
                .map(|place| dir.join(place))
                .into_iter()
                .find(|place| place.is_file())
        });
        Handout {
            path,
            known: Mutex::new(None),
            places: Arc::new(Semaphore::new(DOWNLOADS_MAX)),
        }
    }

    /// What is handed out at present. Reads the whole file where it changed since the last look, so not on a socket's thread.
    ///
    /// # Errors
    /// Why there is nothing to hand out, and what to do.
    pub fn offer(&self) -> Result<Offer, NoAgent> {
        self.open().map(|(offer, _)| offer)
    }

    /// What is handed out, and the open file: a package that replaces it meanwhile harms no download.
    fn open(&self) -> Result<(Offer, File), NoAgent> {
        let path = self.path.as_deref().ok_or(NoAgent::None)?;
        let read = |source| NoAgent::Read {
            path: path.to_owned(),
            source,
        };
        let mut file = File::open(path).map_err(read)?;
        let stamp = stamp(&file).map_err(read)?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let offer = match known.as_ref() {
            Some((of, offer)) if *of == stamp => offer.clone(),
            Some(_) | None => {
                let offer = examine(&mut file, path, stamp.bytes)?;
                *known = Some((stamp, offer.clone()));
                file = File::open(path).map_err(read)?;
                offer
            }
        };
        drop(known);
        Ok((offer, file))
    }
}

fn stamp(file: &File) -> io::Result<Stamp> {
    let meta = file.metadata()?;
    Ok(Stamp {
        device: meta.dev(),
        inode: meta.ino(),
        bytes: if meta.is_file() { meta.len() } else { 0 },
        modified_s: meta.mtime(),
        modified_ns: meta.mtime_nsec(),
    })
}

fn examine(file: &mut File, path: &Path, bytes: u64) -> Result<Offer, NoAgent> {
    let odd = |why| NoAgent::Odd {
        path: path.to_owned(),
        why,
    };
    if bytes > AGENT_BYTES_MAX {
        return Err(odd("it is longer than 256 MiB"));
    }
    let read = |source| NoAgent::Read {
        path: path.to_owned(),
        source,
    };
    let mut digest = Context::new(&SHA256);
    let mut part = vec![0; PART_BYTES];
    let mut arch = None;
    let mut file = file.take(AGENT_BYTES_MAX);
    loop {
        let n = file.read(&mut part).map_err(read)?;
        if n == 0 {
            break;
        }
        if arch.is_none() {
            arch = Some(machine(&part[..n]).map_err(odd)?);
        }
        digest.update(&part[..n]);
    }
    Ok(Offer {
        arch: arch.ok_or_else(|| odd("it is empty"))?,
        sha256: data_encoding::HEXLOWER.encode(digest.finish().as_ref()),
        bytes,
    })
}

/// The machine that an ELF file was built for, from the first twenty bytes of its header.
fn machine(header: &[u8]) -> Result<&'static str, &'static str> {
    if !header.starts_with(b"\x7fELF\x02\x01") {
        return Err("it is no program for 64-bit Linux");
    }
    match header.get(18..20) {
        Some([62, 0]) => Ok("x86_64"),
        Some([183, 0]) => Ok("aarch64"),
        Some([243, 0]) => Ok("riscv64"),
        _ => Err("it is a program for a machine that is not known here"),
    }
}

/// The requests beside the agents' gRPC on one port.
pub(crate) fn beside(mut grpc: Routes, handout: Arc<Handout>) -> Routes {
    let all = grpc.axum_router_mut();
    *all = std::mem::take(all).merge(routes(handout));
    grpc
}

fn routes(handout: Arc<Handout>) -> Router {
    Router::new()
        .route("/install/agent/{arch}", get(agent))
        .route("/install/SHA256SUMS", get(sums))
        .route("/install/{*other}", get(nothing))
        .with_state(handout)
}

async fn nothing() -> Response {
    no("there are /install/agent/ARCH and /install/SHA256SUMS".to_owned())
}

fn no(text: String) -> Response {
    (StatusCode::NOT_FOUND, text + "\n").into_response()
}

/// Opens off the sockets' threads: the file may have to be hashed first.
async fn opened(handout: Arc<Handout>) -> Result<(Offer, File), Response> {
    let opened = tokio::task::spawn_blocking(move || handout.open()).await;
    match opened {
        Ok(Ok(opened)) => Ok(opened),
        Ok(Err(error)) => {
            tracing::warn!("{error}");
            // The path on the server is nobody's business on the network.
            Err(no(
                "this server has no agent to hand out; its log says why".to_owned()
            ))
        }
        Err(_) => Err(StatusCode::INTERNAL_SERVER_ERROR.into_response()),
    }
}

async fn sums(State(handout): State<Arc<Handout>>) -> Response {
    match opened(handout).await {
        Ok((offer, _)) => {
            format!("{}  dawnwatch-agent-{}\n", offer.sha256, offer.arch).into_response()
        }
        Err(response) => response,
    }
}

async fn agent(State(handout): State<Arc<Handout>>, InPath(arch): InPath<String>) -> Response {
    let waiting = Arc::clone(&handout.places).acquire_owned();
    let Ok(Ok(place)) = tokio::time::timeout(PLACE_WITHIN, waiting).await else {
        let busy = "too many hosts fetch the agent at the same time: try again\n";
        let headers = [(header::RETRY_AFTER, "10")];
        return (StatusCode::SERVICE_UNAVAILABLE, headers, busy).into_response();
    };
    let (offer, file) = match opened(handout).await {
        Ok(opened) => opened,
        Err(response) => return response,
    };
    if arch != offer.arch {
        return no(format!(
            "the agent here is for {}, for no other machine",
            offer.arch
        ));
    }
    let (parts, body) = mpsc::channel(PARTS_WAITING);
    tokio::spawn(send(file, offer.bytes, parts, place));
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, offer.bytes.to_string()),
    ];
    (headers, Body::from_stream(ReceiverStream::new(body))).into_response()
}

/// Sends a file part by part until it ends or nobody takes it any more; the place is held as long.
async fn send(
    file: File,
    bytes: u64,
    parts: mpsc::Sender<io::Result<Bytes>>,
    place: OwnedSemaphorePermit,
) {
    let mut file = file.take(bytes);
    loop {
        let read = tokio::task::spawn_blocking(move || {
            let mut part = vec![0; PART_BYTES];
            let read = file.read(&mut part);
            (file, read.map(|n| Bytes::from(part).slice(..n)))
        });
        let Ok((back, part)) = read.await else { break };
        file = back;
        let is_last = part.as_ref().map_or(true, Bytes::is_empty);
        if part.as_ref().is_ok_and(Bytes::is_empty) {
            break;
        }
        let sent = tokio::time::timeout(PART_WITHIN, parts.send(part)).await;
        if is_last || !matches!(sent, Ok(Ok(()))) {
            break;
        }
    }
    drop(place);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first bytes of a program for this machine type.
    fn elf(machine: u8) -> Vec<u8> {
        let mut header = b"\x7fELF\x02\x01\x01".to_vec();
        header.resize(64, 0);
        header[18] = machine;
        header
    }

    #[test]
    fn only_programs_are_handed_out() {
        for (header, want) in [
            (elf(62), Ok("x86_64")),
            (elf(183), Ok("aarch64")),
            (
                elf(3),
                Err("it is a program for a machine that is not known here"),
            ),
            (
                elf(62)[..19].to_vec(),
                Err("it is a program for a machine that is not known here"),
            ),
            (
                b"#!/bin/sh\n".to_vec(),
                Err("it is no program for 64-bit Linux"),
            ),
        ] {
            assert_eq!(machine(&header), want, "{header:?}");
        }
    }

    #[test]
    fn a_file_that_was_replaced_has_its_own_hash() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent");
        let handout = Handout::new(Some(path.clone()));
        assert!(matches!(handout.offer(), Err(NoAgent::Read { .. })));
        std::fs::write(&path, elf(62)).unwrap();
        let first = handout.offer().unwrap();
        assert_eq!((first.arch, first.bytes), ("x86_64", 64));
        assert_eq!(handout.offer().unwrap(), first);
        let next = dir.path().join("next");
        let mut longer = elf(62);
        longer.push(7);
        std::fs::write(&next, &longer).unwrap();
        std::fs::rename(&next, &path).unwrap();
        let second = handout.offer().unwrap();
        assert_ne!(second.sha256, first.sha256);
        let want = ring::digest::digest(&SHA256, &longer);
        assert_eq!(second.sha256, data_encoding::HEXLOWER.encode(want.as_ref()));
        std::fs::write(&path, "text").unwrap();
        let told = handout.offer().unwrap_err().to_string();
        assert!(told.contains("no program for 64-bit Linux"), "{told}");
    }
}
