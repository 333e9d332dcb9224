//! Debian's own message bus with a configuration of the test's, and a relay before it that notes what was said.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

/// A `dbus-daemon` while it is held; nobody offers a service on it.
#[derive(Debug)]
pub struct DbusDaemon {
    child: Child,
    /// Where clients connect: the relay.
    pub socket: PathBuf,
    said: Arc<Mutex<Vec<u8>>>,
}

impl DbusDaemon {
    /// Starts one in an empty directory. `policy` stands last among its rules, as its configuration writes them.
    ///
    /// # Panics
    /// Where it does not start.
    #[must_use]
    pub fn start(dir: &Path, policy: &str) -> DbusDaemon {
        let (real, socket) = (dir.join("real"), dir.join("bus"));
        let config = dir.join("bus.conf");
        let text = format!(
            "<busconfig><type>custom</type><listen>unix:path={}</listen><auth>EXTERNAL</auth>\
             <policy context=\"default\"><allow send_destination=\"*\"/><allow receive_sender=\"*\"/>\
             <allow own=\"*\"/><allow user=\"*\"/>{policy}</policy></busconfig>",
            real.display()
        );
        std::fs::write(&config, text).expect("the configuration can be written");
        let log = dir.join("bus.log");
        let mut command = Command::new("dbus-daemon");
        command
            .arg(format!("--config-file={}", config.display()))
            .args(["--nofork", "--nopidfile", "--print-address=1"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).expect("the log can be made"));
        let mut child = command.spawn().expect("dbus-daemon starts");
        // It says its address once it listens there.
        let mut address = String::new();
        let stdout = child.stdout.take().expect("it is piped");
        let read = BufReader::new(stdout).read_line(&mut address);
        assert!(
            read.is_ok() && address.starts_with("unix:"),
            "dbus-daemon does not listen: {}",
            std::fs::read_to_string(&log).unwrap_or_default()
        );
        let said = Arc::default();
        relay(&socket, real, &said);
        DbusDaemon {
            child,
            socket,
            said,
        }
    }

    /// Whether the bus said these words to a client.
    #[must_use]
    pub fn said(&self, words: &str) -> bool {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.windows(words.len())
            .any(|some| some == words.as_bytes())
    }
}

impl Drop for DbusDaemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn relay(socket: &Path, real: PathBuf, said: &Arc<Mutex<Vec<u8>>>) {
    let listener = UnixListener::bind(socket).expect("the socket can be made");
    let said = Arc::clone(said);
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let bus = UnixStream::connect(&real);
            let Some((to_bus, to_client)) = bus.ok().and_then(|bus| {
                let pair = (bus.try_clone().ok()?, client.try_clone().ok()?);
                let said = Arc::clone(&said);
                std::thread::spawn(move || copy(bus, client, Some(&said)));
                Some(pair)
            }) else {
                continue;
            };
            std::thread::spawn(move || copy(to_client, to_bus, None));
        }
    });
}

/// Copies until one side hangs up, and hangs up on the other.
fn copy(mut from: UnixStream, mut to: UnixStream, note: Option<&Mutex<Vec<u8>>>) {
    let mut buffer = [0; 4_096];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if let Some(note) = note {
            let mut said = note.lock().unwrap_or_else(PoisonError::into_inner);
            said.extend(&buffer[..read]);
        }
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}
