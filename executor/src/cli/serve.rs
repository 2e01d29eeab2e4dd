use std::process::ExitCode;

use config::Settings;

use super::Output;
use super::signals::Signals;
use crate::engine::Engine;
use crate::http::{self, Listeners};
use crate::state_lock::StateLock;

/// `ol-exec serve`
pub(super) async fn serve(settings: Settings, out: Output) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::catch()?;
    let lock = StateLock::take(&settings.state)?;
    // Bound first: a port in use is told before anything is mounted. Answered only when all is ready.
    let listeners = Listeners::bind(&settings, true).await?;
    // A signal that comes meanwhile is kept, and heeded below: half a start cannot be taken down in order.
    let engine = Engine::start(settings.clone(), lock, None).await?;
    let address = listeners.address().map(|address| format!("http://{address} and ")).unwrap_or_default();
    out.line(&format!("ol-exec: ready on {address}{}", listeners.socket().display()));
    let routers = (http::router(engine.clone()), http::local_router(engine.clone()));
    let (count, mut first) = tokio::sync::watch::channel(0_u32);
    let mut second = first.clone();
    let counting = tokio::spawn(async move {
        loop {
            signals.next().await;
            count.send_modify(|count| *count += 1);
        }
    });
    let stop = async {
        let _ = first.wait_for(|count| *count >= 1).await;
        tracing::info!("stopping: calls under way end first; a second signal cuts them off");
    };
    let hurry = async {
        let _ = second.wait_for(|count| *count >= 2).await;
    };
    listeners.serve(&settings, routers, stop, hurry, || engine.halt()).await;
    engine.stop().await;
    counting.abort();
    Ok(ExitCode::SUCCESS)
}
