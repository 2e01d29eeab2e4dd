use config::{Program, Settings};
use tokio::signal::unix::{SignalKind, signal};

use super::Failure;
use crate::serve::Server;

pub(super) async fn run(settings: &Settings) -> Result<(), Failure> {
    let signals = |kind| signal(kind).map_err(|source| Failure::System("listening for signals", source));
    let (mut interrupt, mut terminate) =
        (signals(SignalKind::interrupt())?, signals(SignalKind::terminate())?);
    let address = settings.listen_of(Program::Mirror).unwrap_or(settings.mirror.listen);
    let server = Server::bind(settings, address, settings.socket.as_deref()).await?;
    let address = server.address().map_err(|source| Failure::System("asking for the own address", source))?;
    tracing::info!(index_url = format!("http://{address}/simple/"), state = %settings.state.display(), "serving");
    let stop = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tracing::info!("stopping");
    };
    server.run(stop).await?;
    Ok(())
}
