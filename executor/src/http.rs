//! The HTTP API; `docs/http.md` describes it for its users.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use serde_json::json;

use crate::engine::Engine;
use crate::name::FunctionName;

mod body;
mod error;
mod extract;
mod functions;
mod listen;
mod run;
mod scripts;

pub use listen::{ListenError, Listeners};

use error::ApiError;

/// Header that tells where the sandbox of a call came from: `fork`, `cold` or `warm`.
pub const START_HEADER: &str = "x-ol-start";
/// Header with the name of the invocation, as logs have it.
pub const REQUEST_ID_HEADER: &str = "x-ol-request-id";

type App = State<Arc<Engine>>;

/// What both listeners answer.
pub fn router(engine: Arc<Engine>) -> Router {
    shared_routes().with_state(engine)
}

/// What only the unix socket answers beside that: scripts, which come from whoever may use the state folder.
pub fn local_router(engine: Arc<Engine>) -> Router {
    shared_routes().route("/scripts", post(scripts::run)).with_state(engine)
}

fn shared_routes() -> Router<Arc<Engine>> {
    Router::new()
        .route("/healthz", get(health))
        .route("/functions", get(functions::list))
        .route("/functions/{name}", put(functions::deploy).get(functions::show).delete(functions::remove))
        .route("/functions/{name}/logs", get(functions::logs))
        .route("/run/{name}", post(run::run))
        .fallback(no_such_path)
        .method_not_allowed_fallback(wrong_method)
}

async fn health(State(engine): App) -> impl IntoResponse {
    let counts = engine.pool.counts();
    axum::Json(json!({
        "status": "ok",
        "functions": engine.functions.list().len(),
        "zygotes": engine.zygote_count(),
        "instances": counts.live,
        "idle": counts.idle,
        "waiting": counts.waiting,
    }))
}

async fn no_such_path(uri: Uri) -> Response {
    // A name with a slash in it does not reach the routes; say what is wrong with it rather than 404.
    let name = ["/functions/", "/run/"].iter().find_map(|prefix| uri.path().strip_prefix(prefix));
    match name.map(str::parse::<FunctionName>) {
        Some(Err(error)) => ApiError::from(error).into_response(),
        _ => ApiError::new(
            StatusCode::NOT_FOUND,
            "NoSuchPath",
            format!("{} is no path of this API", uri.path()),
        )
        .into_response(),
    }
}

async fn wrong_method(method: Method, request: Request) -> ApiError {
    let text = format!("{method} is not possible on {}", request.uri().path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", text)
}
