//! `dawnwatch-server`: reads its command line, runs [`dawnwatch_server::app`], or what cares for a data directory.

mod care;
mod descriptors;
mod say;

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use dawnwatch_server::app::{self, Options};
use dawnwatch_server::identity::First;
use dawnwatch_server::supervisor;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

/// The variable that sets the log level, or filters of tracing-subscriber (`name=level,...`).
const LOG_ENV: &str = "DAWNWATCH_LOG";

/// What concerns every command.
const AFTER_HELP: &str = "\
DAWNWATCH_LOG sets how much is logged: error, warn, info (the default), debug.
Exit codes: 0 worked, 1 verify found damages, 64 usage, 65 damaged backup, 70 our bug, 71 the system gives no thread, 73 cannot create or in
use, 74 what is kept cannot be read or written, 77 not allowed, 78 configuration, or data that must not be started: of a later version, half
restored, 130 told to stop twice.";

/// Takes in what agents measure, keeps it, judges it, and has the review ready in the morning.
#[derive(Debug, Parser)]
#[command(name = "dawnwatch-server", version, after_help = AFTER_HELP)]
struct Arguments {
    /// The data directory.
    #[arg(
        long,
        global = true,
        env = "DAWNWATCH_DATA",
        default_value = "/var/lib/dawnwatch-server"
    )]
    data: PathBuf,
    /// The configuration; by default dawnwatch.toml in the data directory, and none at all is fine.
    #[arg(long, global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the server (the default).
    Run {
        /// Where to listen for agents.
        #[arg(long, value_name = "ADDRESS:PORT")]
        listen: Option<SocketAddr>,
        /// A further name or address that agents reach this server by; may be given again.
        #[arg(long = "name", value_name = "NAME")]
        names: Vec<String>,
        /// Where to listen for people, in place of listen in [web].
        #[arg(long, value_name = "ADDRESS:PORT")]
        web: Option<SocketAddr>,
    },
    /// Reads the configuration and says all that is wrong with it.
    Check,
    /// Reads every file and names every damage: which file, where, what it costs, what to do. Also while the server runs.
    Verify {
        /// As what to print it.
        #[arg(long, value_enum, default_value = "text")]
        output: care::Output,
    },
    /// Makes a backup, the CA included, also while the server runs; made again into the same directory, it copies what is new.
    Backup {
        /// A directory that is empty, not there yet, or an earlier backup; best on another disk.
        to: PathBuf,
    },
    /// Puts a backup back into the data directory, which must be empty or not there.
    Restore {
        /// The backup.
        from: PathBuf,
        /// A name or address that agents will reach the restored server by; may be given again.
        #[arg(long = "name", value_name = "NAME")]
        names: Vec<String>,
    },
    /// Returns to how things were before the last upgrade; what was written since is put aside, not removed.
    Rollback,
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 64 } else { 0 });
        }
    };
    let asked = std::env::var(LOG_ENV).ok();
    let filter = filter(asked.as_deref());
    let is_understood = filter.is_some();
    tracing_subscriber::fmt()
        .with_env_filter(filter.unwrap_or_else(|| EnvFilter::new("info")))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    if !is_understood {
        tracing::warn!(
            asked,
            "{LOG_ENV} is no level, so it is info: set it to error, warn, info or debug"
        );
    }
    let mut options = Options {
        data: arguments.data,
        config: arguments.config,
        listen: None,
        names: Vec::new(),
        web: None,
    };
    let done: Result<ExitCode, app::Failed> = match arguments.command {
        None => serve(options).map(|()| ExitCode::SUCCESS),
        Some(Command::Run { listen, names, web }) => {
            (options.listen, options.names, options.web) = (listen, names, web);
            serve(options).map(|()| ExitCode::SUCCESS)
        }
        Some(Command::Check) => app::load_settings(&options).map(|_| {
            say::out(format_args!("the configuration is fine"));
            ExitCode::SUCCESS
        }),
        Some(Command::Verify { output }) => return care::verify(&options.data, output),
        Some(Command::Backup { to }) => return care::backup(&options.data, &to),
        Some(Command::Restore { from, names }) => {
            return care::restore(&from, &options.data, &names);
        }
        Some(Command::Rollback) => return care::rollback(&options.data),
    };
    match done {
        Ok(code) => code,
        Err(failed) => {
            say::err(format_args!("{failed}"));
            ExitCode::from(failed.exit_code())
        }
    }
}

/// How much is logged; none where what is asked for cannot be understood: as a filter an unknown word lets nothing through.
fn filter(asked: Option<&str>) -> Option<EnvFilter> {
    let asked = asked.map(str::trim).filter(|text| !text.is_empty());
    let asked = asked.unwrap_or("info");
    let is_sensible = asked.contains('=') || asked.parse::<LevelFilter>().is_ok();
    EnvFilter::try_new(asked).ok().filter(|_| is_sensible)
}

fn serve(options: Options) -> Result<(), app::Failed> {
    descriptors::raise();
    let data = options.data.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let runtime = runtime.map_err(|source| app::Failed::System {
        what: "start the runtime".to_owned(),
        source,
    })?;
    let ran = runtime.block_on(app::run(options, |ready| {
        print_ready(ready, &data);
        supervisor::tell("READY=1");
    }));
    runtime.shutdown_background();
    ran
}

fn print_ready(ready: &app::Ready, data: &std::path::Path) {
    say::out(format_args!(
        "Agents   {} (gRPC, mutual TLS)   CA SHA-256 {}",
        ready.dial(),
        ready.pin
    ));
    if let Some(page) = &ready.web {
        print_page(page, data);
    }
    say::out(format_args!("Review   dawnwatch --data {}", data.display()));
    let token = format!("dawnwatch --data {} token create", data.display());
    match &ready.first {
        // The secret is for eyes, not for a service manager's journal.
        First::Start(line) if std::io::stdout().is_terminal() => {
            say::out(format_args!(
                "Add a host: paste there as root (24 h, up to 500 hosts):"
            ));
            say::out(format_args!("{}", ready.paste(&line.to_string())));
        }
        First::Start(line) => match write_secret(data, "first-join", &line.to_string()) {
            Ok(path) => say::out(format_args!(
                "Add a host: dawnwatch-agent join {} LINE, the line is in {} (24 h, up to 500 hosts)",
                ready.dial(),
                path.display()
            )),
            Err(error) => {
                tracing::warn!(%error, "the first join line could not be written");
                say::out(format_args!("Add a host: {token}"));
            }
        },
        First::Again => say::out(format_args!("Add a host: {token}")),
    }
    say::out(format_args!("ready"));
}

fn print_page(page: &app::Page, data: &std::path::Path) {
    say::out(format_args!(
        "Page     {}   listens on {}",
        page.site.url, page.address
    ));
    if let Some(tunnel) = &page.site.tunnel {
        say::out(format_args!("         from elsewhere: {tunnel}"));
    }
    let again = format!("dawnwatch --data {} people admin-link", data.display());
    match &page.link {
        // The code is for eyes, not for a service manager's journal.
        Some(link) if std::io::stdout().is_terminal() => {
            say::out(format_args!(
                "First admin (once, 30 min; anew: {again}):\n   {link}"
            ));
        }
        Some(link) => match write_secret(data, "first-admin", link) {
            Ok(path) => say::out(format_args!(
                "First admin: the link is in {} (once, 30 min; anew: {again})",
                path.display()
            )),
            Err(error) => {
                tracing::warn!(%error, "the first admin's link could not be written");
                say::out(format_args!("First admin: {again}"));
            }
        },
        None if page.lacks_admin => say::out(format_args!("No admin yet: {again}")),
        None => {}
    }
}

/// Keeps a secret where its reader must be root or the server's own user.
fn write_secret(data: &std::path::Path, name: &str, secret: &str) -> std::io::Result<PathBuf> {
    let path = data.join(name);
    let mut options = std::fs::File::options();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&path)?;
    writeln!(file, "{secret}")?;
    file.sync_all()?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_no_level_silences_nothing() {
        for (asked, want) in [
            (None, Some("info")),
            (Some(" "), Some("info")),
            (Some("debug"), Some("debug")),
            (Some("ERROR"), Some("error")),
            (
                Some("dawnwatch_server=debug"),
                Some("dawnwatch_server=debug"),
            ),
            (Some("verbose"), None),
            (Some("WARNING"), None),
        ] {
            let found = filter(asked).map(|filter| filter.to_string());
            assert_eq!(found.as_deref(), want, "{asked:?}");
        }
    }
}
