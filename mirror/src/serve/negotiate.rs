//! Which form of a page a client gets (PEP 691; RFC 9110, section 12.5.1).

use axum::http::HeaderMap;
use axum::http::header::ACCEPT;

/// A form of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    Html,
    /// HTML under its plain old type.
    TextHtml,
}

impl Form {
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Form::Json => "application/vnd.pypi.simple.v1+json",
            Form::Html => "application/vnd.pypi.simple.v1+html",
            Form::TextHtml => "text/html; charset=utf-8",
        }
    }

    fn named(text: &str) -> Option<Form> {
        match text {
            "application/vnd.pypi.simple.v1+json" | "application/vnd.pypi.simple.latest+json" => {
                Some(Form::Json)
            }
            "application/vnd.pypi.simple.v1+html" | "application/vnd.pypi.simple.latest+html" => {
                Some(Form::Html)
            }
            "text/html" | "text/*" | "*/*" => Some(Form::TextHtml),
            "application/*" => Some(Form::Json),
            _ => None,
        }
    }
}

/// The form with the highest weight; among equals the one named first. `None`: nothing we have is acceptable.
pub(super) fn form(headers: &HeaderMap, query: Option<&str>) -> Option<Form> {
    let asked = query.and_then(|query| query.split('&').find_map(|part| part.strip_prefix("format=")));
    if let Some(asked) = asked {
        return Form::named(&crate::index_url::percent_decode(asked));
    }
    let accept: Vec<&str> = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    if accept.is_empty() {
        return Some(Form::TextHtml);
    }
    let mut best: Option<(u16, Form)> = None;
    for item in accept.iter().flat_map(|value| value.split(',')) {
        let mut parts = item.split(';').map(str::trim);
        let form = parts.next().and_then(|name| Form::named(&name.to_ascii_lowercase()));
        let weight = parts.find_map(|part| part.strip_prefix("q=")).map_or(1000, thousandths);
        if let Some(form) = form.filter(|_| weight > 0 && best.is_none_or(|(top, _)| weight > top)) {
            best = Some((weight, form));
        }
    }
    best.map(|(_, form)| form)
}

fn thousandths(text: &str) -> u16 {
    let weight = text.trim().parse::<f32>().ok().filter(|q| (0.0..=1.0).contains(q)).unwrap_or(0.0);
    (weight * 1000.0).round() as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(accept: &str) -> Option<Form> {
        form(&[(ACCEPT, accept.parse().unwrap())].into_iter().collect(), None)
    }

    #[test]
    fn weights_decide() {
        let pip = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html; q=0.1, text/html; q=0.01";
        assert_eq!(chosen(pip), Some(Form::Json));
        assert_eq!(
            chosen("application/vnd.pypi.simple.v1+json;q=0.2, text/html;q=0.9"),
            Some(Form::TextHtml)
        );
        assert_eq!(chosen("application/vnd.pypi.simple.latest+html"), Some(Form::Html));
        assert_eq!(chosen("text/html,application/xhtml+xml,*/*;q=0.8"), Some(Form::TextHtml));
        assert_eq!(chosen("*/*"), Some(Form::TextHtml));
        assert_eq!(form(&HeaderMap::new(), None), Some(Form::TextHtml));
    }

    #[test]
    fn nothing_acceptable_is_said_so() {
        assert_eq!(chosen("application/xml"), None);
        assert_eq!(chosen("application/vnd.pypi.simple.v2+json"), None);
        assert_eq!(chosen("text/html;q=0"), None);
    }

    #[test]
    fn the_query_can_name_the_form() {
        let headers = HeaderMap::new();
        assert_eq!(form(&headers, Some("format=application/vnd.pypi.simple.v1%2bjson")), Some(Form::Json));
        assert_eq!(form(&headers, Some("format=yaml")), None);
    }
}
