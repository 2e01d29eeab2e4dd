//! Turns a process with all of root's power into a root zygote with none: namespaces, root, ids, capabilities,
//! filter, exec. Each step is needed by the ones after it or takes power from them.

use std::ffi::CString;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::stat::Mode;
use nix::unistd::{
    Gid, Uid, chdir, execve, fchdir, pivot_root, setgroups, sethostname, setresgid, setresuid, setsid,
};
use serde::{Deserialize, Serialize};

use super::{Failure, become_sibling, receive, step};
use crate::sys::{mount as tree, privilege};

/// What the launcher is told; the descriptors that come with it are the root tree, the zygotes' PID namespace, the
/// control socket and the log pipe, in this order. The seccomp program is the packet after it.
#[derive(Serialize, Deserialize)]
pub(in crate::sandbox) struct Order {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// `NAME=value`, the whole environment.
    pub environ: Vec<String>,
    /// Host user and group of the zygote.
    pub uid: u32,
    /// Size of the `/tmp` that imports may use.
    pub tmp_bytes: u64,
    /// Open files.
    pub max_open_files: u64,
}

pub(super) fn run(socket: BorrowedFd<'_>) -> Result<(), Failure> {
    let (packet, descriptors) = receive(socket)?;
    let (filter, _) = receive(socket)?;
    let order: Order = step("read_order", serde_json::from_slice(&packet).map_err(io::Error::from))?;
    let [root, pid_namespace, control, log] = <[OwnedFd; 4]>::try_from(descriptors)
        .map_err(|_| Failure { step: "read_order".into(), error: "wrong number of descriptors".into() })?;
    step("enter_pid_namespace", setns(&pid_namespace, CloneFlags::CLONE_NEWPID))?;
    become_sibling(socket)?;
    own_namespaces()?;
    enter_root(&root, &order)?;
    limit_resources(&order)?;
    let table = DescriptorTable { control, log };
    step("place_descriptors", table.place())?;
    drop_privilege(&order, &filter)?;
    execute(&order)
}

/// Everything a zygote could see of the host or of another zygote. Its cgroup was set by the daemon before, so the
/// cgroup namespace has the right top.
fn own_namespaces() -> Result<(), Failure> {
    let flags = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWCGROUP;
    step("unshare", unshare(flags))?;
    step("make_mounts_private", remount("/", MsFlags::MS_REC | MsFlags::MS_PRIVATE))?;
    step("set_hostname", sethostname("zygote"))
}

fn remount(path: &str, flags: MsFlags) -> nix::Result<()> {
    mount(None::<&str>, path, None::<&str>, flags, None::<&str>)
}

fn enter_root(root: &OwnedFd, order: &Order) -> Result<(), Failure> {
    step("attach_root", tree::attach(root, Path::new("/")))?;
    step("change_folder", fchdir(root))?;
    let fixed = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    // hidepid: a zygote sees no other zygote and no leaf in the namespace it shares with them.
    let proc = MsFlags::MS_RDONLY | MsFlags::MS_NOEXEC | fixed;
    step("mount_proc", mount(Some("proc"), "proc", Some("proc"), proc, Some("hidepid=2")))?;
    let options = format!("size={},mode=1777", order.tmp_bytes);
    for folder in ["tmp", "dev/shm"] {
        step("mount_tmp", mount(Some("tmpfs"), folder, Some("tmpfs"), fixed, Some(options.as_str())))?;
    }
    step("pivot_root", pivot_root(".", "."))?;
    step("unmount_old_root", umount2(".", MntFlags::MNT_DETACH))?;
    step("change_folder", chdir("/"))
}

fn limit_resources(order: &Order) -> Result<(), Failure> {
    step("new_session", setsid())?;
    let files = order.max_open_files;
    step("limit_open_files", setrlimit(Resource::RLIMIT_NOFILE, files, files))?;
    step("limit_core", setrlimit(Resource::RLIMIT_CORE, 0, 0))
}

/// The descriptors of the program to be executed: nothing to read, output thrown away, errors to the daemon's log,
/// and the control socket at 3.
struct DescriptorTable {
    control: OwnedFd,
    log: OwnedFd,
}

impl DescriptorTable {
    fn place(&self) -> io::Result<()> {
        // A copy cannot have the number 3, since the original or another descriptor has it.
        let control = self.control.try_clone()?;
        let null = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?;
        privilege::place(&null, 0)?;
        privilege::place(&null, 1)?;
        privilege::place(&self.log, 2)?;
        privilege::place(&control, 3)?;
        Ok(())
    }
}

fn drop_privilege(order: &Order, filter: &[u8]) -> Result<(), Failure> {
    let (uid, gid) = (Uid::from_raw(order.uid), Gid::from_raw(order.uid));
    step("empty_bounding_set", privilege::empty_bounding_set())?;
    step("set_groups", setgroups(&[]))?;
    step("set_group", setresgid(gid, gid, gid))?;
    step("set_user", setresuid(uid, uid, uid))?;
    step("drop_capabilities", privilege::drop_capabilities())?;
    step("no_new_privileges", nix::sys::prctl::set_no_new_privs())?;
    step("filter_calls", privilege::filter_calls(filter))
}

fn execute(order: &Order) -> Result<(), Failure> {
    let words = |list: &[String]| -> Result<Vec<CString>, Failure> {
        list.iter()
            .map(|word| step("read_order", CString::new(word.as_str()).map_err(io::Error::from)))
            .collect()
    };
    let (argv, environ) = (words(&order.argv)?, words(&order.environ)?);
    let program = argv.first().cloned().unwrap_or_default();
    // The socket to the daemon among them: its close tells the daemon that every step was taken.
    step("close_descriptors", privilege::close_on_exec_from(4))?;
    step("exec", execve(&program, &argv, &environ)).map(|never| match never {})
}
