//! What the tests of the whole house share.
//!
//! - [`house`]: real servers and agents as processes, in temporary directories, on loopback.
//! - [`wait`]: waiting for a condition, with a bound and a reason.
//! - [`proxy`]: a proxy between agent and server that reads acknowledgements off the wire.

pub mod house;
pub mod proxy;
pub mod wait;
