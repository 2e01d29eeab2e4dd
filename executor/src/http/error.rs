use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use mirror::ResolveError;
use pkgfs::EnvError;
use serde::Serialize;

use crate::chain::chain;
use crate::engine::{DeployError, InvokeError, LaunchError};
use crate::functions::RegistryError;
use crate::name::NameError;
use crate::pool::PoolError;
use crate::supply::SupplyError;
use crate::upload::UploadError;

/// Every answer that is not a success: a status and `{errorType, errorMessage, stackTrace?}`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ApiError {
    #[serde(skip)]
    status: StatusCode,
    error_type: String,
    error_message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    stack_trace: Option<Vec<String>>,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, error_type: &str, error_message: String) -> Self {
        ApiError { status, error_type: error_type.to_owned(), error_message, stack_trace: None }
    }

    pub(super) fn with_trace(mut self, stack_trace: Vec<String>) -> Self {
        self.stack_trace = Some(stack_trace);
        self
    }

    pub(super) fn no_function(name: &str) -> Self {
        let text = format!("there is no function {name:?}; deploy it with PUT /functions/{name}");
        ApiError::new(StatusCode::NOT_FOUND, "NoSuchFunction", text)
    }

    /// A failure of ours: the caller is told, and so is whoever runs the daemon.
    fn internal(error_type: &str, error: &(dyn std::error::Error + 'static)) -> Self {
        let text = chain(error);
        tracing::error!(error_type, error = text, "a request failed for a reason of ours");
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, error_type, text)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.status;
        let mut response = (status, axum::Json(self)).into_response();
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<NameError> for ApiError {
    fn from(error: NameError) -> Self {
        ApiError::new(StatusCode::BAD_REQUEST, "InvalidName", error.to_string())
    }
}

impl From<RegistryError> for ApiError {
    fn from(error: RegistryError) -> Self {
        ApiError::internal("RegistryFailed", &error)
    }
}

impl From<PoolError> for ApiError {
    fn from(error: PoolError) -> Self {
        let (status, name) = match error {
            PoolError::QueueFull { .. } => (StatusCode::TOO_MANY_REQUESTS, "QueueFull"),
            PoolError::WaitedTooLong { .. } => (StatusCode::TOO_MANY_REQUESTS, "WaitedTooLong"),
            PoolError::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "Stopping"),
        };
        ApiError::new(status, name, error.to_string())
    }
}

impl From<UploadError> for ApiError {
    fn from(error: UploadError) -> Self {
        let status = match &error {
            UploadError::TooLarge { .. } | UploadError::TooManyEntries { .. } => {
                StatusCode::PAYLOAD_TOO_LARGE
            }
            UploadError::Write { .. } => return ApiError::internal("StateNotWritable", &error),
            _ => StatusCode::BAD_REQUEST,
        };
        ApiError::new(status, "InvalidUpload", error.to_string())
    }
}

impl From<SupplyError> for ApiError {
    fn from(error: SupplyError) -> Self {
        let SupplyError::Resolve(cause) = &error else {
            return environment(&error);
        };
        let (status, name) = resolve(cause);
        if status.is_server_error() {
            tracing::warn!(error = chain(&error), "requirements could not be resolved");
        }
        ApiError::new(status, name, chain(&error))
    }
}

impl From<LaunchError> for ApiError {
    fn from(error: LaunchError) -> Self {
        match error {
            LaunchError::Supply(error) => error.into(),
            LaunchError::Requirements(_) => {
                ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "InvalidRequirements", chain(&error))
            }
            LaunchError::Stopping => PoolError::Stopping.into(),
            error => ApiError {
                status: StatusCode::SERVICE_UNAVAILABLE,
                ..ApiError::internal("NoSandbox", &error)
            },
        }
    }
}

impl From<InvokeError> for ApiError {
    fn from(error: InvokeError) -> Self {
        match error {
            InvokeError::Pool(error) => error.into(),
            InvokeError::Launch(error) => error.into(),
        }
    }
}

impl From<DeployError> for ApiError {
    fn from(error: DeployError) -> Self {
        match error {
            DeployError::Upload(error) => error.into(),
            DeployError::Launch(error) => error.into(),
            DeployError::Registry(error) => error.into(),
            DeployError::TooMany { .. } => {
                ApiError::new(StatusCode::TOO_MANY_REQUESTS, "TooManyDeployments", error.to_string())
            }
            DeployError::Requirements(error) => {
                ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "InvalidRequirements", chain(&error))
            }
            DeployError::Io(_) => ApiError::internal("StateNotWritable", &error),
        }
    }
}

/// Whose fault a failed resolution is: the requirements', the index's, or ours.
fn resolve(error: &ResolveError) -> (StatusCode, &'static str) {
    let name = match error {
        ResolveError::UnknownProject { .. } => "UnknownPackage",
        ResolveError::Unsolvable { .. } => "UnresolvableRequirements",
        ResolveError::RequiresPython { .. } => "WrongPython",
        _ if error.is_users() => "InvalidRequirements",
        _ if error.upstream_down() => "UpstreamUnavailable",
        ResolveError::TimedOut { .. } => return (StatusCode::GATEWAY_TIMEOUT, "ResolveTimedOut"),
        _ => "ResolveFailed",
    };
    let status = match name {
        "UpstreamUnavailable" => StatusCode::SERVICE_UNAVAILABLE,
        "ResolveFailed" => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    };
    (status, name)
}

/// A wheel that is refused is its publisher's fault, an index that is away may come back, the rest is ours.
fn environment(error: &SupplyError) -> ApiError {
    let SupplyError::Environment(cause) = error else { return ApiError::internal("PackagesFailed", error) };
    if cause.upstream_down() {
        tracing::warn!(error = chain(error), "an environment could not be made");
        return ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "UpstreamUnavailable", chain(error));
    }
    match cause {
        EnvError::Lock(_) | EnvError::Wheel(_) => {
            ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "UnusablePackage", chain(error))
        }
        _ => ApiError::internal("EnvironmentFailed", error),
    }
}
