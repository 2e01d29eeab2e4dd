//! One thread that starts every child: the death signal follows the thread that spawned, and tests' threads come and go.

use std::io;
use std::process::{Child, Command};
use std::sync::LazyLock;
use std::sync::mpsc::{Sender, channel};

use crate::sys;

type Order = (Command, Sender<io::Result<Child>>);

static SPAWNER: LazyLock<Sender<Order>> = LazyLock::new(|| {
    let (orders, ordered) = channel::<Order>();
    std::thread::spawn(move || {
        for (mut command, reply) in ordered {
            sys::end_with_parent(&mut command);
            reply.send(command.spawn()).ok();
        }
    });
    orders
});

/// Starts a child that gets SIGTERM when this process dies, even by SIGKILL.
///
/// # Errors
/// The program cannot be started.
pub fn spawn(command: Command) -> io::Result<Child> {
    let (reply, spawned) = channel();
    let gone = |_| io::Error::other("the spawner thread is gone");
    SPAWNER.send((command, reply)).map_err(|_| io::Error::other("the spawner thread is gone"))?;
    spawned.recv().map_err(gone)?
}
