//! How many cores this process may use.

use std::collections::BTreeSet;

/// Logical processors that affinity and the control group's quota leave us; at least one.
pub(super) fn available() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Threads that a model uses by default: physical cores among the processors that affinity leaves
/// us, within the control group's quota.
///
/// Two hardware threads of one core share its arithmetic and its way to memory: a second one gains
/// nothing here.
pub fn default_threads() -> usize {
    let physical = physical_within_affinity().unwrap_or_else(num_cpus::get_physical);
    physical.clamp(1, available())
}

/// Distinct physical cores among the processors in our affinity mask, where the system tells.
fn physical_within_affinity() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    let cores: Option<BTreeSet<(u32, u32)>> = parse_list(allowed)?.into_iter().map(core).collect();
    cores.map(|cores| cores.len())
}

/// (package, core) of a logical processor.
fn core(cpu: u32) -> Option<(u32, u32)> {
    let read = |what: &str| -> Option<u32> {
        let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/{what}");
        std::fs::read_to_string(path).ok()?.trim().parse().ok()
    };
    Some((read("physical_package_id")?, read("core_id")?))
}

/// The kernel's list format: `0-3,8,10-11`.
fn parse_list(list: &str) -> Option<Vec<u32>> {
    /// Linux has no more processors than this; a longer list is no list.
    const MOST: u32 = 8192;
    let mut cpus = Vec::new();
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last >= MOST {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_lists_parse() {
        for (list, want) in [
            ("0", Some(vec![0])),
            ("\t0-1\n", Some(vec![0, 1])),
            ("0-2,5,7-8", Some(vec![0, 1, 2, 5, 7, 8])),
            ("", None),
            ("3-1", None),
            ("0-99999999", None),
            ("a", None),
        ] {
            assert_eq!(parse_list(list), want, "{list:?}");
        }
    }

    #[test]
    fn defaults_are_within_what_is_available() {
        assert!((1..=available()).contains(&default_threads()));
    }
}
