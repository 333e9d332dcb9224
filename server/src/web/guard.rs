//! What stands before every handler, on the Unix socket and on the port: who asks, whether this name and origin may ask at
//! all, whether the role suffices; and behind it, the headers that every answer carries.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest, MatchedPath, Request, State as Shared};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use dawnwatch_proto::api::Problem;
use serde::Deserialize;
use subtle::ConstantTimeEq;

use super::access::{self, Access};
use super::person::Person;
use super::{Web, page, wants_json};
use crate::api::Failure;

/// A request and its handler together may take this long: whoever sends a body drop by drop is cut off.
const REQUEST_WITHIN: Duration = Duration::from_secs(30);

/// No scripts, styles, pictures or connections but our own; no frames; no plug-ins; forms only to us.
const CONTENT_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Where a script of ours puts the session's token.
const CSRF_HEADER: &str = "x-csrf-token";

/// How a request came in; the listener says so, never the request itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Over the Unix socket: root, or the server's own user.
    Socket,
    /// Over the port.
    Port {
        /// The other end of the connection: the browser, or a proxy.
        peer: SocketAddr,
        /// Whether the connection is encrypted up to us.
        tls: bool,
    },
}

/// Where a request comes from, proxies looked through. In the extensions of every request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// The browser's address; none over the Unix socket.
    pub address: Option<IpAddr>,
    /// Whether the browser speaks HTTPS.
    pub secure: bool,
}

/// Lets a request through to its handler, or says why not.
pub(super) async fn guard(
    Shared(web): Shared<Arc<Web>>,
    mut request: Request,
    next: Next,
) -> Response {
    let json = wants_json(request.uri().path());
    let admitted = match admit(&web, &mut request) {
        Ok(()) => of_our_form(request).await,
        Err(refused) => Err(refused),
    };
    let refused = match admitted {
        Ok(request) => match tokio::time::timeout(REQUEST_WITHIN, next.run(request)).await {
            Ok(answer) => return dressed(answer),
            Err(_) => {
                let error = "the request took too long, try again".to_owned();
                refusal(StatusCode::REQUEST_TIMEOUT, error)
            }
        },
        Err(refused) => refused,
    };
    dressed(refused.answer(json))
}

/// Why a request is not let through.
#[derive(Debug)]
pub(super) enum Refused {
    /// Nobody is logged in, and somebody must be; the path and query to come back to.
    Login(String),
    /// Anything else.
    Failed(Failure),
}

impl Refused {
    fn answer(self, json: bool) -> Response {
        match self {
            Refused::Login(back) if !json => page::to_login(&back),
            Refused::Login(_) => page::failed(
                Failure(
                    StatusCode::UNAUTHORIZED,
                    problem("log in first: this needs a session or a token".to_owned()),
                ),
                json,
            ),
            Refused::Failed(failure) => page::failed(failure, json),
        }
    }
}

pub(super) fn refusal(status: StatusCode, error: String) -> Refused {
    Refused::Failed(Failure(status, problem(error)))
}

fn problem(error: String) -> Problem {
    Problem {
        error,
        suggestions: Vec::new(),
    }
}

fn admit(web: &Web, request: &mut Request) -> Result<(), Refused> {
    let way = request.extensions().get::<Way>().copied();
    let way = way.expect("every listener says how a request came in");
    let caller = caller(web, way, request.headers())?;
    request.extensions_mut().insert(caller);
    let person = match way {
        Way::Socket => Some(Person::root()),
        Way::Port { .. } => {
            host_is_ours(web, request.headers())?;
            same_origin(request.method(), request.headers())?;
            web.person(request.headers(), caller)
        }
    };
    let allowed = allowed(request, person.as_ref());
    if let Some(person) = person {
        request.extensions_mut().insert(person);
    }
    allowed
}

#[derive(Deserialize)]
struct Csrf {
    csrf: String,
}

/// A change that comes with a browser's session carries the token of that session: in its form, or in a header from our
/// script. What needs no login (the login itself) looks after its own forms.
async fn of_our_form(request: Request) -> Result<Request, Refused> {
    let person = request.extensions().get::<Person>();
    let wanted = person.map(|person| person.csrf.clone()).unwrap_or_default();
    let method = request.method();
    let path = request.extensions().get::<MatchedPath>();
    let access = path.and_then(|path| access::of(method, path.as_str()));
    let reads = method == Method::GET || method == Method::HEAD;
    if reads || wanted.is_empty() || matches!(access, None | Some(Access::Open)) {
        return Ok(request);
    }
    let is = |found: &[u8]| bool::from(found.ct_eq(wanted.as_bytes()));
    if let Some(found) = request.headers().get(CSRF_HEADER) {
        return if is(found.as_bytes()) {
            Ok(request)
        } else {
            Err(stale())
        };
    }
    let (parts, body) = request.into_parts();
    let read = tokio::time::timeout(REQUEST_WITHIN, to_bytes(body, super::BODY_BYTES_MAX)).await;
    let Ok(Ok(bytes)) = read else {
        let error = "the body is too long, or came too slowly".to_owned();
        return Err(refusal(StatusCode::PAYLOAD_TOO_LARGE, error));
    };
    let looked_at = Request::from_parts(parts.clone(), Body::from(bytes.clone()));
    match axum::Form::<Csrf>::from_request(looked_at, &()).await {
        Ok(axum::Form(found)) if is(found.csrf.as_bytes()) => {
            Ok(Request::from_parts(parts, Body::from(bytes)))
        }
        Ok(_) | Err(_) => Err(stale()),
    }
}

fn stale() -> Refused {
    let error = "the form is of another session or an older one: go back, load the page anew, and try again";
    refusal(StatusCode::FORBIDDEN, error.to_owned())
}

/// Looks the route up in the table.
fn allowed(request: &Request, person: Option<&Person>) -> Result<(), Refused> {
    let Some(path) = request.extensions().get::<MatchedPath>() else {
        // No such path: that is no secret.
        return Ok(());
    };
    let path = path.as_str();
    let Some(access) = access::of(request.method(), path) else {
        if access::ROUTES.iter().any(|route| route.path == path) {
            let error = format!("{} is not possible here", request.method());
            return Err(refusal(StatusCode::METHOD_NOT_ALLOWED, error));
        }
        tracing::error!(path, "a route stands in no row of the table of access");
        let error = format!("{path} stands in no row of the table of access: please report it");
        return Err(refusal(StatusCode::FORBIDDEN, error));
    };
    let needed = match access {
        Access::Open => return Ok(()),
        Access::Root => {
            if person.is_some_and(Person::is_root) {
                return Ok(());
            }
            let error = "only root on the server's own machine may do this: sudo dawnwatch ...";
            return Err(refusal(StatusCode::FORBIDDEN, error.to_owned()));
        }
        Access::Needs(role) => role,
    };
    let Some(person) = person else {
        let back = request.uri().path_and_query();
        let back = back.filter(|_| request.method() == Method::GET);
        return Err(Refused::Login(
            back.map_or("/", |back| back.as_str()).to_owned(),
        ));
    };
    if person.role >= needed {
        return Ok(());
    }
    let error = format!(
        "this needs the role {}; {} is {}: ask an admin",
        needed.word(),
        person.name,
        person.role.word()
    );
    Err(refusal(StatusCode::FORBIDDEN, error))
}

/// Looks through the proxies that are trusted. What anybody else says of where it comes from is not heard.
fn caller(web: &Web, way: Way, headers: &HeaderMap) -> Result<Caller, Refused> {
    let Way::Port { peer, tls } = way else {
        return Ok(Caller {
            address: None,
            secure: false,
        });
    };
    let peer = peer.ip().to_canonical();
    let direct = Caller {
        address: Some(peer),
        secure: tls,
    };
    let said = headers.contains_key("x-forwarded-proto") || headers.contains_key("x-forwarded-for");
    let trusted = web.settings.behind_proxy.contains(&peer);
    // Without these headers a loopback peer that is trusted may also be the far end of an ssh tunnel.
    if trusted && (said || !peer.is_loopback()) {
        let proto = headers.get("x-forwarded-proto").map(HeaderValue::as_bytes);
        if proto != Some(b"https") {
            let error = "the proxy did not say X-Forwarded-Proto: https: let it encrypt, and set that header";
            return Err(refusal(StatusCode::FORBIDDEN, error.to_owned()));
        }
        return Ok(Caller {
            address: Some(forwarded_for(web, headers).unwrap_or(peer)),
            secure: true,
        });
    }
    if tls || peer.is_loopback() {
        return Ok(direct);
    }
    let error = "this port speaks only to the proxy named in [web] behind_proxy: go through it";
    Err(refusal(StatusCode::FORBIDDEN, error.to_owned()))
}

/// The last address in `X-Forwarded-For` that is none of our proxies': what stands before it, anybody may have written.
fn forwarded_for(web: &Web, headers: &HeaderMap) -> Option<IpAddr> {
    let all = headers.get_all("x-forwarded-for").iter();
    let texts: Vec<&str> = all.filter_map(|value| value.to_str().ok()).collect();
    let addresses = texts.iter().flat_map(|text| text.split(','));
    let addresses = addresses.filter_map(|text| text.trim().parse::<IpAddr>().ok());
    let mut addresses: Vec<IpAddr> = addresses.map(|one| one.to_canonical()).collect();
    while let Some(last) = addresses.pop() {
        if !web.settings.behind_proxy.contains(&last) {
            return Some(last);
        }
    }
    None
}

/// A page elsewhere whose name was made to point at us must not read ours: only our own names are answered to. An address
/// is safe, for a browser that shows one loaded the page from it.
fn host_is_ours(web: &Web, headers: &HeaderMap) -> Result<(), Refused> {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let Some(host) = host else {
        let error = "the request names no host".to_owned();
        return Err(refusal(StatusCode::BAD_REQUEST, error));
    };
    let name = without_port(host)
        .trim_end_matches('.')
        .to_ascii_lowercase();
    let address = name.trim_start_matches('[').trim_end_matches(']');
    if name == "localhost" || address.parse::<IpAddr>().is_ok() || web.names.contains(&name) {
        return Ok(());
    }
    let error = format!("{name:?} is none of this server's names: add it to name in [web]");
    Err(refusal(StatusCode::MISDIRECTED_REQUEST, error))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) | None => host,
    }
}

/// A change must come from our own pages: browsers say where a request was made. What says nothing is no browser of this
/// decade, and needs the token in its form or a bearer token like any script.
fn same_origin(method: &Method, headers: &HeaderMap) -> Result<(), Refused> {
    if method == Method::GET || method == Method::HEAD {
        return Ok(());
    }
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let site = text(HeaderName::from_static("sec-fetch-site"));
    let fits = match (site, text(header::ORIGIN)) {
        (Some(site), _) => site == "same-origin" || site == "none",
        (None, Some(origin)) => {
            let host = origin.split_once("://").map(|(_, host)| host);
            host.is_some() && host == text(header::HOST)
        }
        (None, None) => true,
    };
    if fits {
        return Ok(());
    }
    let error = "this change was asked for by another site, not by this page: open the page itself";
    Err(refusal(StatusCode::FORBIDDEN, error.to_owned()))
}

/// Puts on what every answer carries. What may be kept (assets) says so itself.
fn dressed(mut answer: Response) -> Response {
    let headers = answer.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if !headers.contains_key(header::CACHE_CONTROL) {
        let value = HeaderValue::from_static("no-store");
        headers.insert(header::CACHE_CONTROL, value);
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_lose_their_port_and_nothing_else() {
        for (host, name) in [
            ("mon01:7440", "mon01"),
            ("mon01", "mon01"),
            ("[::1]:7440", "[::1]"),
            ("[::1]", "[::1]"),
            ("127.0.0.1:1", "127.0.0.1"),
        ] {
            assert_eq!(without_port(host), name);
        }
    }

    #[test]
    fn changes_come_from_our_own_pages() {
        let check = |headers: &[(&'static str, &'static str)], fits: bool| {
            let mut map = HeaderMap::new();
            map.insert("host", HeaderValue::from_static("mon01:7440"));
            for (name, value) in headers {
                map.insert(*name, HeaderValue::from_static(value));
            }
            assert_eq!(
                same_origin(&Method::POST, &map).is_ok(),
                fits,
                "{headers:?}"
            );
            assert!(same_origin(&Method::GET, &map).is_ok());
        };
        check(&[("sec-fetch-site", "same-origin")], true);
        check(&[("sec-fetch-site", "none")], true);
        check(&[("sec-fetch-site", "cross-site")], false);
        check(&[("sec-fetch-site", "same-site")], false);
        check(&[("origin", "https://mon01:7440")], true);
        check(&[("origin", "https://mon01:7441")], false);
        check(&[("origin", "https://evil.example")], false);
        check(&[("origin", "null")], false);
        check(&[], true);
    }
}
