use proptest::prelude::*;

use super::*;

const HASH: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn parse(content_type: &str, body: &str) -> Result<ProjectPage, PageError> {
    let base = Url::parse("http://127.0.0.1/simple/six/").unwrap();
    ProjectPage::parse(&"six".parse().unwrap(), &base, content_type, body.as_bytes())
}

#[test]
fn json_gives_all_it_says() {
    let body = format!(
        r#"{{"meta": {{"api-version": "1.4", "_x": 1}}, "name": "six", "versions": ["1.17.0"], "new-key": [],
        "project-status": {{"status": "archived", "reason": "done"}},
        "files": [
          {{"filename": "six-1.17.0-py2.py3-none-any.whl", "url": "../../files/six-1.17.0-py2.py3-none-any.whl",
            "hashes": {{"sha256": "{HASH}"}}, "requires-python": ">=2.7", "core-metadata": {{"sha256": "{HASH}"}},
            "size": 11050, "upload-time": "2024-12-04T17:35:26.475808Z", "yanked": "broken", "provenance": null}},
          {{"filename": "six-1.17.0.tar.gz", "url": "https://files.example/six-1.17.0.tar.gz", "hashes": {{}},
            "yanked": false, "dist-info-metadata": true}},
          {{"filename": 3}},
          {{"filename": "../six.whl", "url": "x", "hashes": {{}}}}
        ]}}"#
    );
    let page = parse("application/vnd.pypi.simple.v1+json", &body).unwrap();
    assert_eq!(page.status.status, "archived");
    assert_eq!(page.files.len(), 2, "{:?}", page.files);
    let wheel = &page.files[0];
    assert_eq!(wheel.url.as_str(), "http://127.0.0.1/files/six-1.17.0-py2.py3-none-any.whl");
    assert_eq!(wheel.sha256().unwrap().to_string(), HASH);
    assert_eq!(wheel.core_metadata, CoreMetadata::Sha256(HASH.parse().unwrap()));
    assert_eq!((wheel.yanked.as_deref(), wheel.size), (Some("broken"), Some(11050)));
    assert_eq!(page.files[1].core_metadata, CoreMetadata::Present);
    assert_eq!(page.files[1].yanked, None);
    assert_eq!(page.wheels().count(), 1);
}

#[test]
fn html_gives_all_it_says() {
    let body = format!(
        r##"<!DOCTYPE html><html><head><meta name="pypi:repository-version" content="1.1"><base href="/p/"></head>
        <body><h1>Links</h1><!-- <a href="no.whl">no.whl</a> -->
        <a href="six-1.17.0-py2.py3-none-any.whl#sha256={HASH}" data-requires-python="&gt;=2.7, !=3.0.*"
           data-yanked="it&#39;s bad" data-dist-info-metadata="sha256={HASH}" data-upload-time="2024-12-04T17:35:26Z">
           six-1.17.0-py2.py3-none-any.whl</a><br/>
        <A HREF='https://files.example/get?id=7' data-core-metadata=true>six-1.16.0-py3-none-any.whl</A>
        <a href="../">up</a><a>nothing</a><a href="ftp://x/six-1-py3-none-any.whl">x</a>"##
    );
    let page = parse("text/html; charset=UTF-8", &body).unwrap();
    assert_eq!(page.files.len(), 2, "{:?}", page.files);
    let wheel = &page.files[0];
    assert_eq!(wheel.url.as_str(), "http://127.0.0.1/p/six-1.17.0-py2.py3-none-any.whl");
    assert_eq!(wheel.requires_python.as_deref(), Some(">=2.7, !=3.0.*"));
    assert_eq!(wheel.yanked.as_deref(), Some("it's bad"));
    assert_eq!(wheel.core_metadata, CoreMetadata::Sha256(HASH.parse().unwrap()));
    assert_eq!(wheel.upload_time.as_deref(), Some("2024-12-04T17:35:26Z"));
    assert_eq!(page.files[1].filename, "six-1.16.0-py3-none-any.whl");
    assert_eq!(page.files[1].core_metadata, CoreMetadata::Present);
}

#[test]
fn the_form_is_seen_from_the_content_where_the_label_is_wrong() {
    let json = r#"{"meta": {"api-version": "1.0"}, "name": "Six", "files": []}"#;
    assert!(parse("text/html", json).is_ok());
    assert!(parse("application/vnd.pypi.simple.v1+json", "<html></html>").is_ok());
    assert!(matches!(parse("text/plain", "hello"), Err(PageError::Unknown(_))));
}

#[test]
fn newer_majors_and_foreign_pages_are_refused_newer_minors_are_not() {
    let json = |version: &str, name: &str| {
        parse("", &format!(r#"{{"meta": {{"api-version": "{version}"}}, "name": "{name}", "files": []}}"#))
    };
    assert!(json("1.9", "six").is_ok());
    assert!(matches!(json("2.0", "six"), Err(PageError::Newer(_))));
    assert!(matches!(json("1.0", "seven"), Err(PageError::OtherProject(_))));
    let html = r#"<meta name="pypi:repository-version" content="2.0">"#;
    assert!(matches!(parse("text/html", html), Err(PageError::Newer(_))));
}

#[test]
fn a_quarantined_project_offers_nothing() {
    let json = format!(
        r#"{{"meta": {{"api-version": "1.4"}}, "name": "six", "project-status": {{"status": "quarantined"}},
        "files": [{{"filename": "six-1-py3-none-any.whl", "url": "x.whl", "hashes": {{"sha256": "{HASH}"}}}}]}}"#
    );
    assert!(parse("", &json).unwrap().files.is_empty());
}

proptest! {
    #[test]
    fn any_body_is_parsed_or_refused(body in "[<>a-z=\"'/!& ;#{}\\[\\]:,-]{0,300}") {
        let _ = parse("text/html", &body);
        let _ = parse("application/json", &body);
    }

    #[test]
    fn attribute_values_survive_escaping(text in "[ -~é]{0,40}") {
        let escaped = text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;");
        let body = format!("<a href=\"six-1-py3-none-any.whl\" data-yanked=\"{escaped}\">six</a>");
        prop_assert_eq!(parse("text/html", &body).unwrap().files[0].yanked.clone(), Some(text));
    }
}
