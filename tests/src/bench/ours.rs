//! Our server as a process: started on ports that it keeps, killed, started again and timed.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dawnwatch_proto::api;
use serde::de::DeserializeOwned;

use super::http::To;
use crate::house::binary;
use crate::socket::request;

/// A server that is not ready within this is broken.
const WITHIN: Duration = Duration::from_secs(120);

/// Between two looks: short against what is measured.
const STEP: Duration = Duration::from_millis(2);

/// A running server.
#[derive(Debug)]
pub struct Ours {
    /// Its data directory.
    pub data: PathBuf,
    /// Where agents connect.
    pub address: SocketAddr,
    web: SocketAddr,
    env: Vec<(String, String)>,
    child: Child,
}

impl Ours {
    /// Starts a server on a data directory and waits until it is ready.
    ///
    /// # Errors
    /// Where it does not become ready.
    pub fn start(data: &Path, env: &[(String, String)]) -> anyhow::Result<Ours> {
        let (address, web) = (free_port()?, free_port()?);
        let child = spawn(data, address, web, env)?;
        let ours = Ours {
            data: data.to_owned(),
            address,
            web,
            env: env.to_vec(),
            child,
        };
        ours.until_ready()?;
        Ok(ours)
    }

    /// A server on a data directory that is not running.
    ///
    /// # Errors
    /// Where there are no ports.
    pub fn stopped(data: &Path) -> anyhow::Result<Ours> {
        let mut ours = Ours::start(data, &[])?;
        ours.stop()?;
        Ok(ours)
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where its API is asked.
    #[must_use]
    pub fn api(&self) -> To {
        To::Unix(self.data.join("api.sock"))
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Stops it with SIGTERM, which writes a checkpoint.
    ///
    /// # Errors
    /// Where it cannot be waited for.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        let pid = i32::try_from(self.child.id())?;
        if let Some(pid) = rustix::process::Pid::from_raw(pid) {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        }
        self.child.wait()?;
        Ok(())
    }

    /// The environment of its next start.
    pub fn set_env(&mut self, env: Vec<(String, String)>) {
        self.env = env;
    }

    /// Starts it again, without waiting.
    ///
    /// # Errors
    /// Where the process does not start.
    pub fn again(&mut self) -> anyhow::Result<()> {
        self.child = spawn(&self.data, self.address, self.web, &self.env)?;
        Ok(())
    }

    /// Waits until `/readyz` says so.
    ///
    /// # Errors
    /// Where it does not within two minutes; its log is in the text.
    pub fn until_ready(&self) -> anyhow::Result<()> {
        let until = super::now() + WITHIN;
        poll(until, || {
            matches!(self.api().get("/readyz"), Ok((200, _))).then_some(())
        })
        .map_err(|error| error.context(fs::read_to_string(log(&self.data)).unwrap_or_default()))
    }

    /// Asks its API.
    ///
    /// # Errors
    /// What the API answers, or why it does not.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        Ok(serde_json::from_slice(&self.api().body(path)?)?)
    }

    /// A line that so many hosts may join by.
    ///
    /// # Errors
    /// What the API answers.
    pub fn join_line(&self, uses: u64) -> anyhow::Result<String> {
        let wanted = api::NewToken {
            uses: u32::try_from(uses)?,
            expires_seconds: 86_400,
            labels: Vec::new(),
        };
        let wanted = serde_json::to_string(&wanted)?;
        let token: api::Token = request(&self.data, "POST", "/api/v1/tokens", &wanted)?;
        Ok(token.join)
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Looks every few milliseconds until there is something.
///
/// # Errors
/// Where there is nothing until then.
pub fn poll<T>(until: Instant, mut look: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        anyhow::ensure!(super::now() < until, "waited in vain");
        std::thread::sleep(STEP);
    }
}

/// A port on loopback that nobody listens on at present.
///
/// # Errors
/// Where there is none.
pub fn free_port() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn log(data: &Path) -> PathBuf {
    data.with_extension("server.log")
}

fn spawn(
    data: &Path,
    address: SocketAddr,
    web: SocketAddr,
    env: &[(String, String)],
) -> anyhow::Result<Child> {
    let log = fs::File::options()
        .create(true)
        .append(true)
        .open(log(data))?;
    let mut command = Command::new(binary("dawnwatch-server"));
    command.arg("--data").arg(data);
    command.args(["run", "--listen", &address.to_string()]);
    command.args(["--web", &web.to_string()]);
    command.envs(env.iter().cloned());
    command.stdin(Stdio::null()).stdout(Stdio::null());
    Ok(command.stderr(log).spawn()?)
}
