//! The index client against an index that is as bad as real ones are.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::io::Read as _;

use config::{CommonArgs, Settings};
use mirror::{Index, IndexClient, IndexError, ProjectName, Ranged, RemoteFile, Sha256};
use tempfile::TempDir;
use tests::index::{FakeIndex, Mode, Quirk};
use tests::wheel::{BuiltWheel, WheelBuilder};

const FILE: &str = "demo-1.0-py3-none-any.whl";

/// A client with a folder of its own that does not wait between tries.
struct Client {
    client: IndexClient,
    dir: TempDir,
}

fn client_with(index: &FakeIndex, config: &str) -> Client {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ol.toml");
    std::fs::write(&file, format!("[mirror]\nretry_delay_ms = 1\nmax_retry_delay_ms = 2\n{config}")).unwrap();
    let args =
        CommonArgs { state: Some(dir.path().join("state")), config: Some(file), ..CommonArgs::default() };
    let settings: Settings = args.load().unwrap();
    let index = Index { url: index.url().parse().unwrap(), certificates: None };
    Client { client: IndexClient::new(&settings, &index).unwrap(), dir }
}

fn client(index: &FakeIndex) -> Client {
    client_with(index, "")
}

fn demo() -> ProjectName {
    "demo".parse().unwrap()
}

/// A wheel whose content does not compress: some of it must come in several pieces.
fn wheel() -> BuiltWheel {
    let noise: Vec<u8> =
        (0..40_000u32).flat_map(|i| Sha256::of(&i.to_le_bytes()).0.into_iter().take(8)).collect();
    WheelBuilder::pure("demo", "1.0").file("demo/noise.bin", noise).build()
}

fn remote(index: &FakeIndex, wheel: &BuiltWheel) -> RemoteFile {
    RemoteFile {
        url: index.file_url(&wheel.file_name).parse().unwrap(),
        sha256: Some(wheel.sha256.parse().unwrap()),
        size: Some(wheel.bytes.len() as u64),
    }
}

#[tokio::test]
async fn every_form_of_a_page_gives_the_file_with_its_digest() {
    for mode in [Mode::Json14, Mode::Json, Mode::Html] {
        let wheel = wheel();
        let index = FakeIndex::start([wheel.clone()]);
        index.set_mode(mode);
        let page = client(&index).client.page(&demo()).await.unwrap();
        let file = page.file(FILE).unwrap();
        assert_eq!(file.sha256().unwrap().to_string(), wheel.sha256, "{mode:?}");
        assert_eq!(file.url.as_str(), index.file_url(FILE), "{mode:?}");
        assert_eq!(file.size.is_some(), mode == Mode::Json14);
        assert!(
            index.requests()[0].accept.as_deref().unwrap().starts_with("application/vnd.pypi.simple.v1+json")
        );
    }
}

#[tokio::test]
async fn a_page_is_fetched_once_however_many_wait_and_asked_for_again_only_when_old() {
    let index = FakeIndex::start([wheel()]);
    let Client { client, dir: _dir } = client(&index);
    let demo = demo();
    let (a, b) = tokio::join!(client.page(&demo), client.page(&demo));
    assert_eq!(a.unwrap(), b.unwrap());
    assert_eq!(index.requests().len(), 1);
    let eager = client_with(&index, "page_ttl_ms = 0");
    eager.client.page(&demo).await.unwrap();
    eager.client.page(&demo).await.unwrap();
    assert_eq!(index.requests().len(), 3);
}

#[tokio::test]
async fn a_page_that_fails_fails_for_all_who_wait_and_the_old_one_is_kept() {
    let index = FakeIndex::start([wheel()]);
    let Client { client, dir: _dir } = client_with(&index, "page_ttl_ms = 0\nretries = 2");
    let demo = demo();
    client.page(&demo).await.unwrap();
    index.clear_log();
    index.quirk("demo", Quirk::RetryAtOnce(503));
    let (a, b, c) = tokio::join!(client.page(&demo), client.page(&demo), client.page(&demo));
    for outcome in [a, b, c] {
        assert!(matches!(outcome.unwrap_err(), IndexError::Status { status: 503, .. }));
    }
    assert_eq!(index.requests().len(), 3, "one run of three tries, not three");
    // Who comes later tries for itself, and the page of before need not be sent again.
    index.clear_quirks();
    index.clear_log();
    client.page(&demo).await.unwrap();
    assert!(index.requests()[0].if_none_match.is_some());
}

#[tokio::test]
async fn an_unknown_project_and_an_index_that_is_down_are_told_apart() {
    let mut index = FakeIndex::start([wheel()]);
    let Client { client, dir: _dir } = client(&index);
    let error = client.page(&"nosuch".parse().unwrap()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "project nosuch is not on the index {}; check the spelling, or name another index with --index-url",
            index.url()
        )
    );
    assert!(!error.upstream_down());
    index.stop();
    let error = client.page(&demo()).await.unwrap_err();
    assert!(error.upstream_down());
    assert_eq!(
        error.to_string(),
        format!(
            "{}demo/ cannot be reached (Connection refused (os error 111)); check the network, or name another index \
             with --index-url",
            index.url()
        )
    );
}

#[tokio::test]
async fn what_may_pass_is_tried_again_and_what_does_not_pass_is_reported() {
    let index = FakeIndex::start([wheel()]);
    let Client { client, dir: _dir } = client(&index);
    index.quirk_times("demo", Quirk::RetryAtOnce(503), 2);
    client.page(&demo()).await.unwrap();
    assert_eq!(index.requests().len(), 3);
    index.clear_log();
    index.quirk("demo", Quirk::Status(502));
    let fresh = client_with(&index, "retries = 1");
    let error = fresh.client.page(&demo()).await.unwrap_err();
    assert!(matches!(error, IndexError::Status { status: 502, .. }), "{error}");
    assert_eq!(index.requests().len(), 2);
    index.clear_quirks();
    index.clear_log();
    index.quirk("demo", Quirk::Status(403));
    let error = fresh.client.page(&demo()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "{}demo/ answered 403; put user and password into the index URL (https://user:password@host/…)",
            index.url()
        )
    );
    assert_eq!(index.requests().len(), 1);
}

#[tokio::test]
async fn pages_that_are_none_or_too_large_are_refused() {
    let index = FakeIndex::start([]);
    index.page("demo", "text/plain", "hello");
    let error = client(&index).client.page(&demo()).await.unwrap_err();
    assert_eq!(error.to_string(), format!("{}demo/ is not a project page", index.url()));
    index.page("demo", "text/html", vec![b' '; 5000]);
    let error = client_with(&index, "max_page_bytes = 4096").client.page(&demo()).await.unwrap_err();
    assert!(error.to_string().contains("is over 4096 bytes; raise `max_page_bytes` in [mirror]"), "{error}");
}

#[tokio::test]
async fn a_range_is_exactly_what_was_asked_for() {
    let wheel = wheel();
    let index = FakeIndex::start([wheel.clone()]);
    let Client { client, dir: _dir } = client(&index);
    let file = remote(&index, &wheel);
    for range in [0..1, 10..5_000, file.size.unwrap() - 22..file.size.unwrap()] {
        let Ranged::Part(part) = client.range(&file, range.clone()).await.unwrap() else {
            panic!("not a part")
        };
        assert_eq!(part, wheel.bytes[range.start as usize..range.end as usize]);
    }
    assert!(
        index.requests().iter().all(|request| request.range.as_deref().is_some_and(|r| !r.contains("=-")))
    );
    index.quirk(FILE, Quirk::WrongContentRange);
    let error = client.range(&file, 10..20).await.unwrap_err();
    assert!(matches!(error, IndexError::OtherRange { .. }), "{error}");
}

#[tokio::test]
async fn a_server_without_ranges_gives_the_whole_file_verified() {
    let wheel = wheel();
    for quirk in [Quirk::NoRanges, Quirk::RangesNotImplemented] {
        let index = FakeIndex::start([wheel.clone()]);
        let Client { client, dir } = client(&index);
        let file = remote(&index, &wheel);
        index.quirk(FILE, quirk);
        let Ranged::Whole(mut whole) = client.range(&file, 10..20).await.unwrap() else {
            panic!("not the whole")
        };
        let mut bytes = Vec::new();
        whole.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, wheel.bytes);
        let other = RemoteFile { sha256: Some(Sha256::of(b"other")), ..file };
        let error = client.range(&other, 10..20).await.unwrap_err();
        assert!(matches!(error, IndexError::Digest { .. }), "{error}");
        assert_eq!(std::fs::read_dir(dir.path().join("state/tmp")).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn a_size_is_found_without_trusting_head() {
    let wheel = wheel();
    let index = FakeIndex::start([wheel.clone()]);
    let Client { client, dir: _dir } = client(&index);
    index.quirk(FILE, Quirk::LyingHead);
    let file = RemoteFile { size: None, ..remote(&index, &wheel) };
    assert_eq!(client.size(&file).await.unwrap(), wheel.bytes.len() as u64);
    client.size(&file).await.unwrap();
    assert_eq!(index.requests().len(), 1);
    let past_the_end = RemoteFile { size: None, ..file };
    let end = wheel.bytes.len() as u64;
    let error = client.range(&past_the_end, end..end + 10).await.unwrap_err();
    assert!(matches!(error, IndexError::BeyondEnd { .. }), "{error}");
}

#[tokio::test]
async fn a_download_goes_on_where_it_was_cut() {
    let wheel = wheel();
    let index = FakeIndex::start([wheel.clone()]);
    let Client { client, dir } = client(&index);
    index.quirk_times(FILE, Quirk::HangUp(100_000), 2);
    let dest = dir.path().join(FILE);
    let done = client.download(&remote(&index, &wheel), &dest, &|_| {}).await.unwrap();
    assert_eq!(done.sha256.to_string(), wheel.sha256);
    assert_eq!(std::fs::read(&dest).unwrap(), wheel.bytes);
    let requests = index.requests();
    assert_eq!(requests.len(), 3, "{requests:?}");
    assert!(requests[1].range.is_some() && requests[2].range.is_some(), "{requests:?}");
}

#[tokio::test]
async fn a_download_that_is_not_what_was_promised_leaves_nothing() {
    let wheel = wheel();
    let index = FakeIndex::start([wheel.clone()]);
    let Client { client, dir } = client(&index);
    let dest = dir.path().join("down").join(FILE);
    std::fs::create_dir(dest.parent().unwrap()).unwrap();
    index.quirk(FILE, Quirk::WrongBytes);
    let error = client.download(&remote(&index, &wheel), &dest, &|_| {}).await.unwrap_err();
    assert!(error.to_string().contains("and is not used"), "{error}");
    let longer = RemoteFile { size: Some(wheel.bytes.len() as u64 - 1), ..remote(&index, &wheel) };
    let error = client.download(&longer, &dest, &|_| {}).await.unwrap_err();
    assert!(matches!(error, IndexError::Size { .. }), "{error}");
    assert_eq!(std::fs::read_dir(dest.parent().unwrap()).unwrap().count(), 0);
}
