//! What the tests of the whole house share.
//!
//! - [`house`]: real servers and agents as processes, in temporary directories, on loopback.
//! - [`wait`]: waiting for a condition, with a bound and a reason.
//! - [`bus`]: a message bus with a systemd whose units the test sets.
//! - [`proxy`]: a proxy between agent and server that reads acknowledgements off the wire.
//! - [`receivers`]: a webhook receiver and a real SMTP server, which keep what they get.
//! - [`journal`]: journals of systemd with what a test writes into them.
//! - [`faketime`]: another wall clock for processes, set by the test.
//! - [`mounts`]: real filesystems that one process or one test has for itself.
//! - [`stream`]: a stream to the server on which the test says what it likes.
//! - [`mod@bench`]: what the benchmarks share: the same data for us and for the peers.
//! - [`browser`]: a real browser that does what a test says.
//! - [`netns`]: a small network of namespaces, with loss where a test wants it.
//! - [`socket`]: asking a server over the API's Unix socket.
//! - [`stage`]: a server and agents, each behind a proxy of its own, to be broken; [`oracle`] says what was lost.
//! - [`inject`]: processes whose system calls fail, hang or kill where a test says so.
//! - [`image`]: a filesystem on a loop device whose power can be cut.
//! - [`sim`]: agents, links and a server under a simulated clock, by seed, in one thread.
//! - [`flat`]: whether a process that runs for long stays as large as it is.
//! - [`fuzzing`]: all that reads bytes from outside, as functions over any bytes, for libFuzzer and `tests/tests/fuzz.rs`.
//! - [`chaos`]: a bad network between agent and server: slow, cut, reset, or swallowing what is said.
//! - [`chance`]: numbers that a seed gives, and settings from the environment.
//! - [`needs`]: what the system must have for a test to run, and what happens where it lacks.

pub mod bench;
pub mod browser;
pub mod bus;
pub mod chance;
pub mod chaos;
pub mod dbus;
pub mod faketime;
pub mod flat;
pub mod fuzzing;
pub mod house;
pub mod image;
pub mod inject;
pub mod journal;
pub mod mounts;
pub mod needs;
pub mod netns;
pub mod oracle;
pub mod proxy;
pub mod receivers;
pub mod sim;
pub mod socket;
pub mod stage;
pub mod stream;
pub mod wait;

/// Says something to whoever runs the tests, also where the test passes: cargo keeps back only what is printed.
pub fn say(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{text}");
}
