use std::sync::Mutex;

use axum::Router;
use axum::http::{HeaderMap, Uri};
use config::CommonArgs;

use super::*;

/// Serves an empty page, and keeps what came as `Authorization`.
async fn guarded() -> (Url, Arc<Mutex<Vec<String>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&seen);
    let app = Router::new().fallback(async move |uri: Uri, headers: HeaderMap| {
        let user = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or("nobody");
        keep.lock().unwrap().push(format!("{} {user}", uri.path()));
        if uri.path().ends_with(".whl") {
            "wheel"
        } else {
            "<html><a href=\"../six-1-py3-none-any.whl\">six</a>"
        }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://user:p%40ss@{}/simple", listener.local_addr().unwrap());
    tokio::spawn(async { axum::serve(listener, app).await });
    (url.parse().unwrap(), seen)
}

fn client(index: &Index, dir: &tempfile::TempDir) -> Result<IndexClient, IndexError> {
    let config = dir.path().join("ol.toml");
    std::fs::write(&config, "").unwrap();
    let args = CommonArgs { config: Some(config), state: Some(dir.path().into()), ..CommonArgs::default() };
    IndexClient::new(&args.load().unwrap(), index)
}

#[tokio::test]
async fn the_user_of_the_index_is_sent_to_its_host_and_shown_to_nobody() {
    let (url, seen) = guarded().await;
    let dir = tempfile::tempdir().unwrap();
    let client = client(&Index { url, certificates: None }, &dir).unwrap();
    let page = client.page(&"six".parse().unwrap()).await.unwrap();
    let file = page.file("six-1-py3-none-any.whl").unwrap();
    assert_eq!(file.url.username(), "");
    client.download(&file.remote(), &dir.path().join("six.whl"), &|_| {}).await.unwrap();
    let user = "Basic dXNlcjpwQHNz";
    let wanted = [format!("/simple/six/ {user}"), format!("/simple/six-1-py3-none-any.whl {user}")];
    assert_eq!(*seen.lock().unwrap(), wanted);
    let wrong = RemoteFile { sha256: Some(Sha256::of(b"other")), ..file.remote() };
    let error = client.download(&wrong, &dir.path().join("six.whl"), &|_| {}).await.unwrap_err();
    assert!(!crate::causes(&error).contains("user"), "{error}");
}

#[test]
fn a_certificate_file_that_cannot_be_used_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let index = |file: std::path::PathBuf| Index {
        url: "https://127.0.0.1/simple".parse().unwrap(),
        certificates: Some(file),
    };
    let error = client(&index("/nonexistent.pem".into()), &dir).err().unwrap().to_string();
    assert!(
        error.starts_with("certificate file /nonexistent.pem (pip's `cert` setting) cannot be used: "),
        "{error}"
    );
}
