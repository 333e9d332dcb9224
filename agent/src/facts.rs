//! What the host is, once at the agent's start.

use dawnwatch_proto::event::Started;
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

/// The facts of this host; what cannot be found out is empty or 0.
#[must_use]
pub fn started(last_stop_clean: bool) -> Started {
    let uname = rustix::system::uname();
    let wanted = RefreshKind::nothing()
        .with_cpu(CpuRefreshKind::nothing())
        .with_memory(MemoryRefreshKind::nothing().with_ram());
    let system = System::new_with_specifics(wanted).ok();
    let cpus = system.as_ref().map_or(0, |system| system.cpus().len());
    let boot_seconds = System::boot_time()
        .ok()
        .and_then(|s| i64::try_from(s).ok())
        .unwrap_or(0);
    Started {
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        hostname: uname.nodename().to_string_lossy().into_owned(),
        boot_id: boot_id(),
        boot_time_ms: boot_seconds.saturating_mul(1_000),
        os: os(),
        kernel: uname.release().to_string_lossy().into_owned(),
        arch: uname.machine().to_string_lossy().into_owned(),
        cpus: u32::try_from(cpus).unwrap_or(u32::MAX),
        memory_bytes: system.map_or(0, |system| system.total_memory()),
        last_stop_clean,
    }
}

/// The kernel's boot id: another one at each boot.
fn boot_id() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

/// Name and version of the distribution, such as `Debian GNU/Linux 12`.
fn os() -> String {
    let name = System::name().unwrap_or_default();
    let version = System::os_version().unwrap_or_default();
    format!("{name} {version}").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::started;

    #[test]
    fn this_host_is_known() {
        let facts = started(true);
        assert!(facts.last_stop_clean && !started(false).last_stop_clean);
        assert_eq!(facts.boot_id.len(), 36, "{}", facts.boot_id);
        assert!(!facts.hostname.is_empty() && !facts.os.is_empty() && !facts.kernel.is_empty());
        assert!(facts.cpus > 0 && facts.memory_bytes > 1 << 20, "{facts:?}");
        // 2001 to 2100: seconds taken for milliseconds would be far off.
        assert!((1_000_000_000_000..4_102_444_800_000).contains(&facts.boot_time_ms));
    }
}
