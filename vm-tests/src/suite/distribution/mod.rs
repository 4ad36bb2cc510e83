//! What needs a whole distribution: systemd as PID 1 with the sensor's unit, and the programs that run others for whoever
//! asks.

mod asked;
mod brokers;
mod cases;
mod machine;
mod subject;
mod units;

use super::Group;

pub(crate) use asked::run as act;

/// In the order in which they run. The names are those of [`treeline_vm_tests::DISTRIBUTION_GROUPS`].
pub(super) const GROUPS: &[Group] = &[units::GROUP, brokers::GROUP];

/// Whether this guest is such a one, as `sd_booted` asks it.
pub(crate) fn is_here() -> bool {
    std::path::Path::new("/run/systemd/system").is_dir()
}

#[cfg(test)]
mod tests {
    #[test]
    fn groups_have_the_names_that_the_host_knows() {
        let names: Vec<&str> = super::GROUPS.iter().map(|group| group.name).collect();
        assert_eq!(names, treeline_vm_tests::DISTRIBUTION_GROUPS);
    }
}
