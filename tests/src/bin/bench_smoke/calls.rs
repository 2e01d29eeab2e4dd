use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tests::guard::Daemon;

/// Deploys a handler.
pub(crate) fn deploy(exec: &Daemon, name: &str, source: &str) {
    let reply = exec.send("PUT", &format!("/functions/{name}"), source);
    assert!(matches!(reply.status, 200 | 201), "{}\n{}", reply.text(), exec.log());
}

/// One call with a connection of its own, as curl makes it: how long it took, and its `x-ol-start`.
pub(crate) fn call(exec: &Daemon, name: &str) -> (Duration, String) {
    let path = format!("/run/{name}");
    let begun = Instant::now();
    let reply = exec.send("POST", &path, "null");
    let took = begun.elapsed();
    assert_eq!((reply.status, reply.text().as_str()), (200, "45"), "{}", exec.log());
    (took, reply.header("x-ol-start").unwrap_or_default().to_owned())
}

/// Calls one after another.
pub(crate) fn sequential(exec: &Daemon, name: &str, count: usize) -> Vec<Duration> {
    (0..count).map(|_| call(exec, name).0).collect()
}

/// Calls by several clients at once, and how long all took.
pub(crate) fn concurrent(
    exec: &Daemon,
    name: &str,
    count: usize,
    clients: usize,
) -> (Vec<Duration>, Duration) {
    let next = AtomicUsize::new(0);
    let begun = Instant::now();
    let client = || {
        let mut times = Vec::new();
        while next.fetch_add(1, Ordering::Relaxed) < count {
            times.push(call(exec, name).0);
        }
        times
    };
    let times = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..clients).map(|_| scope.spawn(client)).collect();
        clients.into_iter().flat_map(|client| client.join().expect("a client")).collect()
    });
    (times, begun.elapsed())
}
