use std::fs;

use super::StartError;

/// Settings of the kernel that keep a process without privilege from having a user namespace of its own, the value
/// that does, and the one that would lift it. A host has the ones its kernel and distribution know.
const SWITCHES: [(&str, &str, &str); 3] = [
    ("user.max_user_namespaces", "0", "10000"),
    // Debian's kernels.
    ("kernel.unprivileged_userns_clone", "0", "1"),
    // Ubuntu from 23.10 on: the namespace can be made, and has no power.
    ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
];

/// Says at start what would otherwise fail in the first fork with a bare "permission denied".
pub(super) fn check() -> Result<(), StartError> {
    check_with(&|name| fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/"))).ok())
}

fn check_with(value: &dyn Fn(&str) -> Option<String>) -> Result<(), StartError> {
    for (name, off, on) in SWITCHES {
        if value(name).is_some_and(|found| found.trim() == off) {
            return Err(StartError::UserNamespaces { name, off, on });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_that_is_off_is_named_with_what_lifts_it() {
        assert!(check_with(&|_| None).is_ok());
        assert!(check_with(&|_| Some("5\n".into())).is_ok());
        let ubuntu = |name: &str| name.contains("apparmor").then(|| "1\n".to_owned());
        let text = check_with(&ubuntu).unwrap_err().to_string();
        assert!(text.contains("sysctl kernel.apparmor_restrict_unprivileged_userns=0"), "{text}");
    }
}
