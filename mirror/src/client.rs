use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use config::{MirrorSettings, Settings};
use lru::LruCache;
use reqwest::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderMap, IF_NONE_MATCH};
use reqwest::{Certificate, StatusCode};
use url::Url;

use crate::{Index, ProjectName, ProjectPage, Sha256};

mod body;
mod download;
mod error;
mod range;
mod request;

pub use download::Downloaded;
pub use error::IndexError;
pub use range::Ranged;

const ACCEPT_PAGE: &str = "application/vnd.pypi.simple.v1+json, \
    application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.01";

/// A file on an index, with what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteFile {
    /// Where it is.
    pub url: Url,
    /// Its digest, where the index or a lock has one.
    pub sha256: Option<Sha256>,
    /// Its size in bytes, where it is known.
    pub size: Option<u64>,
}

/// Reads an index: project pages, and files whole or by ranges. Cheap to clone.
///
/// Every request is tried again where the failure may pass; every wait and every body has a limit (`[mirror]`).
#[derive(Clone)]
pub struct IndexClient(Arc<Inner>);

struct Inner {
    pages_http: Http,
    files_http: Http,
    certificates: Vec<Certificate>,
    index: Index,
    settings: MirrorSettings,
    temp: std::path::PathBuf,
    pages: Mutex<LruCache<ProjectName, Slot>>,
    sizes: Mutex<LruCache<Url, u64>>,
}

/// One kind of connection; made when it is first needed, since reading the system's certificates takes a while and
/// most runs of a script fetch nothing.
#[derive(Default)]
struct Http {
    compressed: bool,
    client: OnceLock<reqwest::Client>,
}

/// One page's place: locked while it is fetched, so that it is fetched once however many wait.
type Slot = Arc<tokio::sync::Mutex<Place>>;

#[derive(Default)]
struct Place {
    kept: Option<Kept>,
    /// The last try, where the index could not be reached: for those who waited for it.
    failed: Option<(Instant, IndexError)>,
}

struct Kept {
    page: Arc<ProjectPage>,
    etag: Option<String>,
    fresh_until: Instant,
}

impl IndexClient {
    /// A client of `index`. Opens no connection.
    ///
    /// # Errors
    /// A certificate file that cannot be read.
    pub fn new(settings: &Settings, index: &Index) -> Result<IndexClient, IndexError> {
        // An error only says that one is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mirror = &settings.mirror;
        let certificates = certificates(index)?;
        let slots = std::num::NonZeroUsize::new(mirror.pages_kept).unwrap_or(std::num::NonZeroUsize::MIN);
        Ok(IndexClient(Arc::new(Inner {
            pages_http: Http { compressed: true, ..Http::default() },
            // Offsets must be the file's own.
            files_http: Http { compressed: false, ..Http::default() },
            certificates,
            index: index.clone(),
            settings: mirror.clone(),
            temp: settings.state_dir("tmp"),
            pages: Mutex::new(LruCache::new(slots)),
            sizes: Mutex::new(LruCache::new(
                slots.saturating_mul(std::num::NonZeroUsize::MIN.saturating_add(15)),
            )),
        })))
    }

    fn http(&self, http: &Http) -> Result<reqwest::Client, IndexError> {
        if let Some(client) = http.client.get() {
            return Ok(client.clone());
        }
        let built = reqwest::Client::builder()
            .user_agent(concat!("ol-mirror/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_millis(self.0.settings.connect_timeout_ms))
            .read_timeout(Duration::from_millis(self.0.settings.read_timeout_ms))
            .tls_certs_merge(self.0.certificates.clone())
            .gzip(http.compressed)
            .build()
            .map_err(|source| IndexError::Setup { source })?;
        Ok(http.client.get_or_init(|| built).clone())
    }

    /// The index it reads.
    pub fn index(&self) -> &Index {
        &self.0.index
    }

    /// The page of `project`, at most `page_ttl_ms` old.
    ///
    /// # Errors
    /// The project is unknown, the index cannot be reached, or its answer is not a project page.
    pub async fn page(&self, project: &ProjectName) -> Result<Arc<ProjectPage>, IndexError> {
        let slot = {
            let mut pages = self.0.pages.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(pages.get_or_insert(project.clone(), Slot::default))
        };
        let asked = Instant::now();
        let mut place = slot.lock().await;
        if let Some(kept) = place.kept.as_ref().filter(|kept| kept.fresh_until > Instant::now()) {
            return Ok(Arc::clone(&kept.page));
        }
        // Else each of many who wait would try for itself, one after another.
        let shared = place.failed.as_ref().filter(|(when, _)| *when >= asked);
        if let Some(error) = shared.and_then(|(_, error)| error.passing_copy()) {
            return Err(error);
        }
        match self.fetch_page(project, place.kept.as_ref()).await {
            Ok(fetched) => {
                let page = Arc::clone(&fetched.page);
                *place = Place { kept: Some(fetched), failed: None };
                Ok(page)
            }
            Err(error) => {
                place.failed = error.passing_copy().map(|copy| (Instant::now(), copy));
                Err(error)
            }
        }
    }

    async fn fetch_page(&self, project: &ProjectName, old: Option<&Kept>) -> Result<Kept, IndexError> {
        let url = self.page_url(project);
        let mut headers = request::headers([(ACCEPT, ACCEPT_PAGE)]);
        if let Some(etag) = old.and_then(|old| old.etag.as_deref()?.parse().ok()) {
            headers.insert(IF_NONE_MATCH, etag);
        }
        let (url, headers) = (&url, &headers);
        self.retry(url, || async move {
            let answer = self.send(&self.0.pages_http, url, headers).await?;
            match (answer.status(), old) {
                (StatusCode::NOT_FOUND | StatusCode::GONE, _) => {
                    return Err(IndexError::UnknownProject {
                        project: project.clone(),
                        index: self.shown_index(),
                    });
                }
                (StatusCode::NOT_MODIFIED, Some(old)) => {
                    let fresh_until = self.fresh_until(answer.headers());
                    return Ok(Kept { page: Arc::clone(&old.page), etag: old.etag.clone(), fresh_until });
                }
                _ => {}
            }
            let answer = request::expect(answer, &[StatusCode::OK])?;
            let base = answer.url().clone();
            let head = answer.headers().clone();
            let text = |name| head.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
            let body = body::read(answer, self.0.settings.max_page_bytes).await?;
            let page = ProjectPage::parse(project, &base, &text(CONTENT_TYPE).unwrap_or_default(), &body)
                .map_err(|source| IndexError::Page { url: error::shown(url), source })?;
            Ok(Kept { page: Arc::new(page), etag: text(ETAG), fresh_until: self.fresh_until(&head) })
        })
        .await
    }

    fn page_url(&self, project: &ProjectName) -> Url {
        let mut url = self.0.index.url.clone();
        let root = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{root}/{project}/"));
        url
    }

    fn shown_index(&self) -> String {
        error::shown(&self.0.index.url)
    }

    /// The index may shorten our time to live, not lengthen it.
    fn fresh_until(&self, headers: &HeaderMap) -> Instant {
        let mine = self.0.settings.page_ttl_ms;
        let theirs = headers
            .get(CACHE_CONTROL)
            .and_then(|value| value.to_str().ok())
            .and_then(|text| text.split(',').find_map(|part| part.trim().strip_prefix("max-age=")))
            .and_then(|seconds| seconds.parse::<u64>().ok())
            .map_or(mine, |seconds| seconds.saturating_mul(1000));
        Instant::now() + Duration::from_millis(theirs.min(mine))
    }
}

fn certificates(index: &Index) -> Result<Vec<Certificate>, IndexError> {
    let Some(path) = &index.certificates else { return Ok(Vec::new()) };
    let pem = std::fs::read(path)
        .map_err(|source| IndexError::Certificates { path: path.clone(), reason: source.to_string() })?;
    Certificate::from_pem_bundle(&pem)
        .map_err(|source| IndexError::Certificates { path: path.clone(), reason: source.to_string() })
}

#[cfg(test)]
mod tests;
