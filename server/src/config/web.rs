//! `[web]`: where and how people reach the page.
//!
//! What reaches beyond this machine must be encrypted: there, a certificate of one's own or a proxy in front is asked for.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use dawnwatch_proto::PAGE_PORT;

use super::is_server_name;
use super::reader::{At, Reader, Section};

/// Proxies that are trusted: more stand in front of no one server.
const PROXIES_MAX: usize = 32;

/// Names that the page is reached by: a few, so that a pasted list of a whole domain is noticed.
const NAMES_MAX: usize = 64;

/// What `[web]` sets, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebSettings {
    /// Where people are listened for; none where the page is off.
    pub listen: Option<SocketAddr>,
    /// Certificate chain and key in PEM, read anew when they change.
    pub tls: Option<Tls>,
    /// Addresses of proxies whose `X-Forwarded-` headers are believed.
    pub behind_proxy: Vec<IpAddr>,
    /// Names that people type into their browsers; the first one stands in links.
    pub names: Vec<String>,
}

/// The files of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The chain, the server's own certificate first.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Default for WebSettings {
    fn default() -> WebSettings {
        WebSettings {
            listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, PAGE_PORT))),
            tls: None,
            behind_proxy: Vec::new(),
            names: Vec::new(),
        }
    }
}

impl WebSettings {
    /// Why the page must not be served at this address, where it must not.
    ///
    /// # Errors
    /// One sentence: what is missing and what to set.
    pub fn may_listen(&self, address: SocketAddr) -> Result<(), String> {
        let guarded = self.tls.is_some() || !self.behind_proxy.is_empty();
        if guarded || address.ip().to_canonical().is_loopback() {
            return Ok(());
        }
        Err(format!(
            "the page would be served at {address} without encryption: set cert and key in [web], or behind_proxy to the \
             address of the proxy that encrypts, or listen on 127.0.0.1:{PAGE_PORT} and go there through ssh -L"
        ))
    }
}

pub(super) fn read(reader: &mut Reader<'_>, section: &Section<'_>, web: &mut WebSettings) {
    reader.known(section, &["listen", "cert", "key", "behind_proxy", "name"]);
    let listen_at = listen(reader, section, web);
    tls(reader, section, web);
    for (text, at) in reader.texts(section, "behind_proxy") {
        match text.parse::<IpAddr>() {
            Ok(address) => web.behind_proxy.push(address.to_canonical()),
            Err(_) => reader.mistake(
                at,
                format!("{text:?} in behind_proxy is no address"),
                Some("name the proxy by its address, like \"10.0.0.5\"".to_owned()),
            ),
        }
    }
    for (name, at) in reader.texts(section, "name") {
        if is_server_name(&name) {
            web.names.push(name.to_ascii_lowercase());
        } else {
            let hint = "write it without scheme, port and path, like \"watch.example.org\"";
            reader.mistake(
                at,
                format!("{name:?} is neither a host name nor an address"),
                Some(hint.to_owned()),
            );
        }
    }
    bounded(
        reader,
        section,
        "behind_proxy",
        web.behind_proxy.len(),
        PROXIES_MAX,
    );
    bounded(reader, section, "name", web.names.len(), NAMES_MAX);
    if let Some(Err(why)) = web.listen.map(|address| web.may_listen(address)) {
        reader.mistake(listen_at, why, None);
    }
}

fn listen(reader: &mut Reader<'_>, section: &Section<'_>, web: &mut WebSettings) -> At {
    let Some((text, at)) = reader.text(section, "listen") else {
        return section.at_of("listen");
    };
    if text == "off" {
        web.listen = None;
        return at;
    }
    match text.parse() {
        Ok(address) => web.listen = Some(address),
        Err(_) => reader.mistake(
            at.clone(),
            format!("listen = {text:?} is no address with a port"),
            Some(format!(
                "write it like \"127.0.0.1:{PAGE_PORT}\" or \"[::]:{PAGE_PORT}\", or \"off\" for no page"
            )),
        ),
    }
    at
}

fn tls(reader: &mut Reader<'_>, section: &Section<'_>, web: &mut WebSettings) {
    let cert = reader.text(section, "cert");
    let key = reader.text(section, "key");
    web.tls = match (cert, key) {
        (None, None) => None,
        (Some((cert, _)), Some((key, _))) => Some(Tls {
            cert: cert.into(),
            key: key.into(),
        }),
        (Some(_), None) => {
            reader.missing(section, "key", "key to the file of the certificate's key");
            None
        }
        (None, Some(_)) => {
            reader.missing(section, "cert", "cert to the file of the key's certificate");
            None
        }
    };
}

fn bounded(reader: &mut Reader<'_>, section: &Section<'_>, key: &str, found: usize, max: usize) {
    if found > max {
        let at = section.at_of(key);
        reader.mistake(at, format!("{key} has {found} entries, limit {max}"), None);
    }
}
