//! Cookies. Each carries the server's mark in its name, for browsers share the cookies of all ports of `127.0.0.1`, and tunnels
//! to several servers end there.

use axum::http::header::{COOKIE, HeaderMap};
use axum::http::{HeaderValue, header};
use axum::response::Response;

/// What a cookie is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cookie {
    /// Holds a session.
    Session,
    /// Ties the forms that come before a session to the browser that loaded them.
    Form,
}

impl Cookie {
    fn name(self, mark: &str, secure: bool) -> String {
        let what = match self {
            Cookie::Session => "session",
            Cookie::Form => "form",
        };
        // A browser takes a name like this only from HTTPS, for this host alone.
        let prefix = if secure { "__Host-" } else { "" };
        format!("{prefix}dawnwatch-{what}-{mark}")
    }

    /// What the browser sent.
    pub(super) fn read(self, headers: &HeaderMap, mark: &str, secure: bool) -> Option<String> {
        let name = self.name(mark, secure);
        let all = headers.get_all(COOKIE).iter();
        let pairs = all
            .filter_map(|value| value.to_str().ok())
            .flat_map(|text| text.split(';'));
        let mut values = pairs.filter_map(|pair| pair.trim().split_once('='));
        let found = values.find(|(key, _)| *key == name);
        found
            .map(|(_, value)| value.to_owned())
            .filter(|value| !value.is_empty())
    }

    /// Puts it into an answer; an empty value takes it away.
    pub(super) fn write(self, answer: &mut Response, mark: &str, secure: bool, value: &str) {
        let name = self.name(mark, secure);
        let site = match self {
            // A link in a mail must find the person logged in.
            Cookie::Session => "Lax",
            Cookie::Form => "Strict",
        };
        let secure = if secure { "; Secure" } else { "" };
        let end = if value.is_empty() { "; Max-Age=0" } else { "" };
        let text = format!("{name}={value}; Path=/; HttpOnly; SameSite={site}{secure}{end}");
        if let Ok(text) = HeaderValue::from_str(&text) {
            answer.headers_mut().append(header::SET_COOKIE, text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::response::IntoResponse;

    #[test]
    fn cookies_are_told_apart_by_server_purpose_and_encryption() {
        let mut answer = "".into_response();
        Cookie::Session.write(&mut answer, "ab", true, "s1");
        Cookie::Session.write(&mut answer, "ab", false, "s2");
        Cookie::Form.write(&mut answer, "cd", false, "");
        let set: Vec<&str> = answer
            .headers()
            .get_all(header::SET_COOKIE)
            .iter()
            .map(|value| value.to_str().unwrap())
            .collect();
        assert_eq!(
            set,
            [
                "__Host-dawnwatch-session-ab=s1; Path=/; HttpOnly; SameSite=Lax; Secure",
                "dawnwatch-session-ab=s2; Path=/; HttpOnly; SameSite=Lax",
                "dawnwatch-form-cd=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0",
            ]
        );
        let mut sent = HeaderMap::new();
        let text = "x=1; dawnwatch-session-ab=s2;dawnwatch-session-cd=s3; dawnwatch-form-ab=";
        sent.insert(COOKIE, HeaderValue::from_static(text));
        let read = |cookie: Cookie, mark, secure| cookie.read(&sent, mark, secure);
        assert_eq!(read(Cookie::Session, "ab", false).as_deref(), Some("s2"));
        assert_eq!(read(Cookie::Session, "cd", false).as_deref(), Some("s3"));
        assert_eq!(read(Cookie::Session, "ab", true), None);
        assert_eq!(read(Cookie::Form, "ab", false), None);
    }
}
