//! The default of consumer names.

/// The machine's name: stable over restarts, and a container's own. "localhost" where the system does not say.
pub fn host_name() -> String {
    let named = |text: String| Some(text.trim().to_owned()).filter(|name| !name.is_empty());
    let kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").ok().and_then(named);
    let shell = || std::env::var("HOSTNAME").ok().and_then(named);
    kernel.or_else(shell).unwrap_or_else(|| "localhost".to_owned())
}
