//! What a sandbox sees and what it cannot do. The handlers here report; the asserts are outside.

use serde_json::{Value, json};

use executor::sandbox::LeafSpec;

use super::bench::{bench, call, child, environment, outcome_of, reply};

async fn seen(source: &str) -> Value {
    let bench = bench().await;
    let value = reply(&outcome_of(&bench, source).await);
    bench.stop().await;
    value
}

#[tokio::test]
async fn a_leaf_has_no_power() {
    if !tests::skip::needs_root() {
        return;
    }
    let source = "
import os
def f(event):
    status = dict(line.rstrip('\\n').split(':\\t', 1) for line in open('/proc/self/status') if ':\\t' in line)
    caps = [status[name] for name in ('CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb')]
    return {'caps': sorted(set(caps)), 'nnp': status['NoNewPrivs'], 'seccomp': status['Seccomp'],
            'ids': [os.getuid(), os.geteuid(), os.getgid(), os.getgroups()], 'pid': os.getpid(),
            'session': os.getsid(0), 'limits': __import__('resource').getrlimit(4)}
";
    let expected = json!({"caps": ["0000000000000000"], "nnp": "1", "seccomp": "2",
        "ids": [1000, 1000, 1000, []], "pid": 1, "session": 1, "limits": [0, 0]});
    assert_eq!(seen(source).await, expected);
}

#[tokio::test]
async fn a_leaf_is_an_ordinary_user_of_its_own_on_the_host() {
    if !tests::skip::needs_root() {
        return;
    }
    let bench = bench().await;
    let source = "import time\ndef f(event):\n    return [int(x) for x in open('/proc/self/uid_map').read().split()]\n";
    let (mut one, mut two) = (bench.leaf(source).await, bench.leaf(source).await);
    let (first, second) = (reply(&call(&mut one, "1").await), reply(&call(&mut two, "1").await));
    assert_eq!(first[0], json!(1000));
    assert_ne!(first[1], second[1], "siblings have ids of their own");
    assert!(first[1].as_u64().unwrap() >= 0x7000_0000);
    one.end().await;
    two.end().await;
    bench.stop().await;
}

#[tokio::test]
async fn a_leaf_sees_only_itself() {
    if !tests::skip::needs_root() {
        return;
    }
    let source = "
import os, socket
def f(event):
    return {'pids': sorted(name for name in os.listdir('/proc') if name.isdigit()),
            'interfaces': [name for _, name in socket.if_nameindex()],
            'mounts': sorted(line.split()[4] for line in open('/proc/self/mountinfo')),
            'fds': sorted(int(n) for n in os.listdir('/proc/self/fd'))[:-1],
            'cwd': os.getcwd(), 'host': socket.gethostname(), 'environ': sorted(os.environ),
            'cgroups': sorted(set(line.strip().split(':', 2)[2] for line in open('/proc/self/cgroup') if 'memory' in line or line.startswith('0:'))),
            'top': sorted(os.listdir('/'))}
";
    let seen = seen(source).await;
    assert_eq!(seen["pids"], json!(["1"]));
    assert_eq!(seen["interfaces"], json!(["lo"]));
    assert_eq!(seen["fds"], json!([0, 1, 2, 3]));
    assert_eq!((&seen["cwd"], &seen["host"]), (&json!("/"), &json!("sandbox")));
    assert_eq!(seen["cgroups"], json!(["/"]));
    let known = [
        "/",
        "/usr",
        "/bin",
        "/lib",
        "/lib32",
        "/lib64",
        "/libx32",
        "/sbin",
        "/ol/runtime",
        "/ol/code",
        "/tmp",
        "/dev/shm",
        "/proc",
    ];
    let prefix = mirror::Interpreter::find(None).unwrap().base_prefix;
    for mount in seen["mounts"].as_array().unwrap() {
        let mount = mount.as_str().unwrap();
        assert!(known.contains(&mount) || prefix.starts_with(mount), "{mount} is mounted");
    }
    let text = seen["environ"].to_string();
    assert!(!text.contains("OL_") && !text.contains("CARGO"), "{text}");
}

#[tokio::test]
async fn a_leaf_writes_nowhere_but_in_its_scratch() {
    if !tests::skip::needs_root() {
        return;
    }
    let source = "
import os
def f(event):
    done = {}
    for folder in ('/', '/usr', '/etc', '/ol', '/ol/code', '/ol/runtime', '/dev', '/proc', '/var/tmp', os.path.dirname(os.__file__), '/tmp', '/dev/shm'):
        try:
            with open(folder + '/new', 'w') as file: file.write('x')
            done[folder] = True
        except OSError: pass
    for target in ('/proc/self/exe', '/ol/code/f.py', '/ol/runtime/zygote.py', '/proc/sys/kernel/core_pattern', '/proc/sysrq-trigger'):
        try:
            open(target, 'r+b').close()
            done[target] = True
        except OSError: pass
    with open('/dev/null', 'w') as file: file.write('x')
    with open('/dev/stdout', 'w') as file: file.write('x')
    return sorted(done)
";
    assert_eq!(seen(source).await, json!(["/dev/shm", "/tmp"]));
}

#[tokio::test]
async fn ways_out_are_closed() {
    if !tests::skip::needs_root() {
        return;
    }
    let source = format!("{ATTEMPTS}def f(event):\n    return {{**attempts(), **forks()}}\n");
    let answers = seen(&source).await;
    for (what, answer) in answers.as_object().unwrap() {
        assert_eq!(answer, expected(what), "{what}");
    }
    assert_eq!(answers.as_object().unwrap().len(), 26);
}

#[tokio::test]
async fn ways_out_are_closed_to_imports_too() {
    if !tests::skip::needs_root() {
        return;
    }
    let bench = bench().await;
    let env = environment(&bench, "env", &[("attempts.py", &format!("{ATTEMPTS}ANSWERS = attempts()\n"))]);
    for parent in [bench.root.clone(), child(&bench, &bench.root, &env, &[]).await] {
        let zygote = child(&bench, &parent, &env, &["attempts"]).await;
        assert_eq!(zygote.failed_imports(), []);
        let source = "import attempts\ndef f(event):\n    return attempts.ANSWERS\n";
        let spec = LeafSpec { env_path: Some(env.clone()), ..bench.spec(source) };
        let mut leaf = bench.sandboxes.fork(&zygote, spec).await.unwrap();
        let answers = reply(&call(&mut leaf, "1").await);
        leaf.end().await;
        for (what, answer) in answers.as_object().unwrap() {
            assert_eq!(answer, expected(what), "{what}");
        }
        assert_eq!(answers.as_object().unwrap().len(), 24);
    }
    bench.stop().await;
}

/// What each attempt must come to.
fn expected(what: &str) -> &'static str {
    match what {
        "clone3" => "ENOSYS",
        "network" => "ENETUNREACH",
        "netlink 0" => "done",
        "setuid root" => "EINVAL",
        _ => "EPERM",
    }
}

/// Python that tries to get out. Forks with namespaces are what a zygote is for: they are tried in a leaf alone.
const ATTEMPTS: &str = "
import ctypes, errno, os, platform, socket
libc = ctypes.CDLL(None, use_errno=True)
X86 = platform.machine() == 'x86_64'
def tried(result):
    return 'done' if result >= 0 else errno.errorcode[ctypes.get_errno()]
def call(*args):
    ctypes.set_errno(0)
    return tried(libc.syscall(*args))
def forks():
    return {
        'clone newuser': call(56 if X86 else 220, 0x10000000 | 17, 0, 0, 0, 0),
        'clone3': call(435, 0, 0),
    }
def attempts():
    os.mkdir('/tmp/jail')
    answers = {
        'chroot': tried(libc.chroot(b'/tmp/jail')),
        'mount': tried(libc.mount(b'none', b'/tmp', b'tmpfs', 0, None)),
        'umount': tried(libc.umount2(b'/tmp', 2)),
        'unshare user': tried(libc.unshare(0x10000000)),
        'unshare mount': tried(libc.unshare(0x20000)),
        'unshare net': tried(libc.unshare(0x50000000)),
        'setns': tried(libc.setns(os.open('/proc/self/ns/mnt', os.O_RDONLY), 0)),
        'ptrace': tried(libc.ptrace(16, 1, 0, 0)),
        'keyctl': call(250 if X86 else 219, 0, -3, 0),
        'bpf': call(321 if X86 else 280, 0, 0, 0),
        'io_uring': call(425, 1, 0),
        'userfaultfd': call(323 if X86 else 282, 0),
        'perf': call(298 if X86 else 241, 0, 0, -1, -1, 0),
        'setuid root': tried(libc.setresuid(0, 0, 0)),
        'mknod': tried(libc.mknod(b'/tmp/sda', 0o60600, 0x800)),
    }
    for protocol in (0, 6, 9, 12, 21):
        try:
            socket.socket(16, socket.SOCK_RAW, protocol).close()
            answers['netlink %d' % protocol] = 'done'
        except OSError as e:
            answers['netlink %d' % protocol] = errno.errorcode[e.errno]
    for family in (17, 38, 40):
        try:
            socket.socket(family, socket.SOCK_RAW if family == 17 else socket.SOCK_DGRAM).close()
            answers['family %d' % family] = 'done'
        except OSError as e:
            answers['family %d' % family] = errno.errorcode[e.errno]
    try:
        socket.create_connection(('192.0.2.1', 80), 5)
        answers['network'] = 'done'
    except OSError as e:
        answers['network'] = errno.errorcode[e.errno]
    return answers
";

#[tokio::test]
async fn ordinary_programs_work() {
    if !tests::skip::needs_root() {
        return;
    }
    let source = "
import concurrent.futures, multiprocessing, os, socket, sqlite3, subprocess, sys, tempfile, threading
def square(x): return x * x
def f(event):
    out = subprocess.run([sys.executable, '-c', 'print(6 * 7)'], capture_output=True, text=True).stdout
    shell = subprocess.run('echo $HOME; id -un', shell=True, capture_output=True, text=True).stdout
    with multiprocessing.get_context('fork').Pool(2) as pool: squares = pool.map(square, [1, 2, 3])
    with concurrent.futures.ThreadPoolExecutor(4) as pool: threads = list(pool.map(square, [4, 5]))
    one, two = socket.socketpair()
    one.sendall(b'x')
    with tempfile.NamedTemporaryFile() as file: db = sqlite3.connect(file.name).execute('select 1').fetchone()
    return [out, shell, squares, threads, two.recv(1).decode(), list(db), os.path.expanduser('~')]
";
    let expected = json!(["42\n", "/tmp\nsandbox\n", [1, 4, 9], [16, 25], "x", [1], "/tmp"]);
    assert_eq!(seen(source).await, expected);
}

#[tokio::test]
async fn a_handler_named_like_a_standard_module_does_not_stand_in_for_it() {
    if !tests::skip::needs_root() {
        return;
    }
    let bench = bench().await;
    let mut spec = bench.spec("def f(event):\n    import types, colorsys\n    return [hasattr(types, 'f'), hasattr(colorsys, 'f')]\n");
    for name in ["types.py", "colorsys.py"] {
        std::fs::copy(spec.code_dir.join("f.py"), spec.code_dir.join(name)).unwrap();
    }
    spec.kind = executor::sandbox::LeafKind::Function { file: "types.py".into() };
    let mut leaf = bench.sandboxes.fork(&bench.root, spec).await.unwrap();
    assert_eq!(reply(&call(&mut leaf, "1").await), json!([false, false]));
    leaf.end().await;
    bench.stop().await;
}
