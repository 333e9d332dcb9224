//! Real servers and agents as processes, in temporary directories, on loopback.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use dawnwatch_proto::api;
use serde::de::DeserializeOwned;

use crate::socket::request;
use crate::wait::until;

/// A process that does not start or stop within this is broken, also where many others run.
const WITHIN: Duration = Duration::from_secs(60);

/// The path of one of our binaries, built once in the profile of this test.
///
/// # Panics
/// Where it cannot be built.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    // A benchmark measures the agent as it is installed, which has a profile of its own.
    if name == "dawnwatch-agent"
        && let Some(agent) = std::env::var_os("DAWNWATCH_AGENT")
    {
        return PathBuf::from(agent);
    }
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    let dir = DIR.get_or_init(|| {
        let test = std::env::current_exe().expect("a test knows its own path");
        let dir = test.parent().expect("a test lies in a directory");
        // Tests lie in deps/, beside the binaries; a benchmark is one of the binaries.
        let dir = if dir.ends_with("deps") {
            dir.parent()
                .expect("deps/ lies in the directory of its profile")
        } else {
            dir
        };
        let dir = dir.to_owned();
        // Whoever runs a benchmark has built everything just now.
        if std::env::var_os("DAWNWATCH_BUILT").is_some() {
            return dir;
        }
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build.args([
            "build",
            "--quiet",
            "--locked",
            "-p",
            "dawnwatch-server",
            "-p",
            "dawnwatch-agent",
            "-p",
            "dawnwatch-cli",
        ]);
        if dir.file_name().is_some_and(|name| name == "release") {
            build.arg("--release");
        }
        // What cargo tells a test of its crate would have build scripts run anew, here and at the next test.
        for (name, _) in std::env::vars_os() {
            let own = [
                "CARGO_PKG_",
                "CARGO_MANIFEST_",
                "CARGO_CRATE_",
                "CARGO_BIN_",
            ];
            if own
                .iter()
                .any(|own| name.to_string_lossy().starts_with(own))
            {
                build.env_remove(name);
            }
        }
        let built = build
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            .status();
        assert!(
            built.is_ok_and(|status| status.success()),
            "the binaries do not build"
        );
        dir
    });
    dir.join(name)
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    /// Its data directory.
    pub data: PathBuf,
    /// Where agents connect.
    pub address: SocketAddr,
    /// Where people connect.
    pub web: SocketAddr,
    child: Child,
    log: PathBuf,
}

/// How to start a server.
#[derive(Debug, Clone, Default)]
pub struct ServerOptions {
    /// Where to listen; any free port where none is given.
    pub listen: Option<SocketAddr>,
    /// Environment of the process.
    pub env: Vec<(String, String)>,
    /// Command and arguments put before the server. They must end by becoming the server, under the same process id.
    pub through: Vec<String>,
    /// Further names that agents reach it by.
    pub names: Vec<String>,
}

/// A server that ended before it was ready.
#[derive(Debug)]
pub struct Ended {
    /// How.
    pub status: ExitStatus,
    /// All that it ever logged.
    pub log: String,
}

impl Server {
    /// Starts a server on a data directory and waits until it is ready.
    ///
    /// # Panics
    /// Where it does not become ready; its log is in the text.
    #[must_use]
    pub fn start(data: &Path, options: &ServerOptions) -> Server {
        Server::try_start(data, options)
            .unwrap_or_else(|ended| panic!("the server ended: {}\n{}", ended.status, ended.log))
    }

    /// Starts a server that may end before it is ready.
    ///
    /// # Errors
    /// How it ended.
    ///
    /// # Panics
    /// Where it neither becomes ready nor ends.
    #[allow(clippy::unwrap_in_result, reason = "a test may panic")]
    pub fn try_start(data: &Path, options: &ServerOptions) -> Result<Server, Ended> {
        let listen = options
            .listen
            .unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
        let log = data.with_extension("server.log");
        let out = data.with_extension("server.out");
        let mut words: Vec<PathBuf> = options.through.iter().map(PathBuf::from).collect();
        words.push(binary("dawnwatch-server"));
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .arg("--data")
            .arg(data)
            .args(["run", "--listen", &listen.to_string()])
            .args(["--web", "127.0.0.1:0"]);
        for name in &options.names {
            command.args(["--name", name]);
        }
        command.envs(options.env.iter().cloned());
        command
            .stdin(Stdio::null())
            .stdout(create(&out))
            .stderr(append(&log));
        let mut child = command.spawn().expect("dawnwatch-server starts");
        let (address, web) = until("the server to be ready", WITHIN, || {
            let text = fs::read_to_string(&out).unwrap_or_default();
            if let Ok(Some(status)) = child.try_wait() {
                let log = fs::read_to_string(&log).unwrap_or_default();
                return Some(Err(Ended { status, log }));
            }
            text.contains("\nready\n").then(|| {
                let address = text.split_whitespace().nth(1).expect("Agents ADDRESS");
                let address = address.parse().expect("an address on loopback");
                Ok((address, listening_for_people(&text)))
            })
        })?;
        Ok(Server {
            data: data.to_owned(),
            address,
            web,
            child,
            log,
        })
    }

    /// How it ended, where it has.
    ///
    /// # Panics
    /// Where the system does not say.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Kills it with SIGKILL and starts it anew on the same data and port.
    #[must_use]
    pub fn kill_and_start(mut self, options: &ServerOptions) -> Server {
        self.kill();
        let options = ServerOptions {
            listen: Some(self.address),
            ..options.clone()
        };
        Server::start(&self.data.clone(), &options)
    }

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        send(&self.child, signal);
    }

    /// Stops it with SIGTERM.
    ///
    /// # Panics
    /// Where it does not stop.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(rustix::process::Signal::TERM);
        until("the server to stop", WITHIN, || {
            self.child.try_wait().expect("a child can be waited for")
        })
    }

    /// Asks its API.
    ///
    /// # Errors
    /// What the API answers, or why it does not.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        request(&self.data, "GET", path, "")
    }

    /// Posts to its API.
    ///
    /// # Errors
    /// What the API answers, or why it does not.
    pub fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl serde::Serialize,
    ) -> anyhow::Result<T> {
        request(&self.data, "POST", path, &serde_json::to_string(body)?)
    }

    /// Makes a join token.
    ///
    /// # Panics
    /// Where the API does not.
    #[must_use]
    pub fn token(&self, uses: u32) -> api::Token {
        let wanted = api::NewToken {
            uses,
            expires_seconds: 3_600,
            labels: Vec::new(),
        };
        self.post("/api/v1/tokens", &wanted)
            .expect("a token is made")
    }

    /// Runs the command against it.
    ///
    /// # Panics
    /// Where the binary does not run at all.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> std::process::Output {
        let mut command = Command::new(binary("dawnwatch"));
        command
            .arg("--data")
            .arg(&self.data)
            .args(arguments)
            .stdin(Stdio::null());
        command.output().expect("dawnwatch runs")
    }
}

/// Where a server that says it is ready listens for people.
fn listening_for_people(text: &str) -> SocketAddr {
    let line = text.lines().find_map(|line| line.strip_prefix("Page     "));
    let at = line.and_then(|line| line.split("listens on ").nth(1));
    let at = at.and_then(|at| at.trim().parse().ok());
    at.expect("Page URL, listens on ADDRESS")
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// How an agent's processes are started.
#[derive(Debug, Clone, Default)]
pub struct Launch {
    /// Command and arguments put before `run`: another namespace, say. They must end by becoming the agent.
    pub through: Vec<String>,
    /// Environment of the agent, of joining too.
    pub env: Vec<(String, String)>,
}

/// An agent: its state, and its process while it runs.
#[derive(Debug)]
pub struct Agent {
    /// Its state directory.
    pub state: PathBuf,
    /// The name it joined by.
    pub name: String,
    launch: Launch,
    child: Option<Child>,
    log: PathBuf,
}

impl Agent {
    /// Joins a host by the line of a token.
    ///
    /// # Panics
    /// Where joining fails; what it said is in the text.
    #[must_use]
    pub fn join(state: &Path, name: &str, server: SocketAddr, line: &str) -> Agent {
        Agent::join_by(state, name, server, line, Launch::default())
    }

    /// Joins a host whose processes are started in a way of its own.
    ///
    /// # Panics
    /// As [`Agent::join`] does.
    #[must_use]
    pub fn join_by(
        state: &Path,
        name: &str,
        server: SocketAddr,
        line: &str,
        launch: Launch,
    ) -> Agent {
        let mut command = Command::new(binary("dawnwatch-agent"));
        command
            .args([
                "join",
                &server.to_string(),
                line,
                "--hostname",
                name,
                "--state",
            ])
            .arg(state);
        command.envs(launch.env.iter().cloned());
        let output = command
            .stdin(Stdio::null())
            .output()
            .expect("dawnwatch-agent runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "join failed: {said}");
        let log = state.with_extension("agent.log");
        Agent {
            state: state.to_owned(),
            name: name.to_owned(),
            launch,
            child: None,
            log,
        }
    }

    /// Writes its configuration: ticks every so many milliseconds, and further lines.
    ///
    /// # Panics
    /// Where the file cannot be written.
    pub fn configure(&self, tick_ms: u64, further: &str) {
        let text = format!("tick_ms = {tick_ms}\n{further}\n");
        fs::write(self.config(), text).expect("the configuration is written");
    }

    fn config(&self) -> PathBuf {
        self.state.with_extension("agent.toml")
    }

    /// Starts it.
    ///
    /// # Panics
    /// Where the process does not start.
    pub fn start(&mut self) {
        let Launch { through, env } = &self.launch;
        let mut words: Vec<PathBuf> = through.iter().map(PathBuf::from).collect();
        if !words.is_empty() && !env.is_empty() {
            // The environment is the agent's alone, not that of what leads to it.
            words.push(PathBuf::from("env"));
            words.extend(
                env.iter()
                    .map(|(name, value)| PathBuf::from(format!("{name}={value}"))),
            );
        }
        words.push(binary("dawnwatch-agent"));
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        if through.is_empty() {
            command.envs(env.iter().cloned());
        }
        command.arg("run").arg("--state").arg(&self.state);
        if self.config().exists() {
            command.arg("--config").arg(self.config());
        }
        command
            .stdin(Stdio::null())
            .stdout(append(&self.log))
            .stderr(append(&self.log));
        self.child = Some(command.spawn().expect("dawnwatch-agent starts"));
    }

    /// What it logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// How it ended, where it has.
    ///
    /// # Panics
    /// Where the system does not say.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let child = self.child.as_mut()?;
        child.try_wait().expect("a child can be waited for")
    }

    /// Sends a signal, while it runs.
    pub fn signal(&self, signal: rustix::process::Signal) {
        if let Some(child) = &self.child {
            send(child, signal);
        }
    }

    /// Puts these words before it from the next start on, in place of those it had.
    pub fn start_through(&mut self, through: Vec<String>) {
        self.launch.through = through;
    }

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Stops it with SIGTERM.
    ///
    /// # Panics
    /// Where it does not stop.
    pub fn stop(&mut self) -> Option<ExitStatus> {
        let mut child = self.child.take()?;
        send(&child, rustix::process::Signal::TERM);
        Some(until("the agent to stop", WITHIN, || {
            child.try_wait().expect("a child can be waited for")
        }))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.kill();
    }
}

fn send(child: &Child, signal: rustix::process::Signal) {
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    let _ = rustix::process::kill_process(pid.expect("a child has a process id"), signal);
}

fn create(path: &Path) -> File {
    File::create(path).expect("a log can be made")
}

fn append(path: &Path) -> File {
    File::options()
        .create(true)
        .append(true)
        .open(path)
        .expect("a log can be made")
}
