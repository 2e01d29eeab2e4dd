use axum::extract::{FromRequestParts, Path, Query};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::error::ApiError;
use crate::name::FunctionName;

/// The name in a request's path. What is none is told like every other error, not in the framework's plain text.
pub(super) struct Name(pub(super) FunctionName);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Name, ApiError> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        let Path(name) = path.map_err(|rejection| {
            ApiError::new(StatusCode::BAD_REQUEST, "InvalidName", rejection.body_text())
        })?;
        Ok(Name(name.parse()?))
    }
}

/// The parameters behind a request's `?`.
pub(super) struct Params<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Params<T>, ApiError> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        let Query(parameters) = query.map_err(|rejection| {
            ApiError::new(StatusCode::BAD_REQUEST, "InvalidQuery", rejection.body_text())
        })?;
        Ok(Params(parameters))
    }
}
