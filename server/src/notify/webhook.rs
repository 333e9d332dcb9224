//! A channel that posts JSON in the form of Alertmanager's webhook (version 4), with everything we know beside it under
//! `dawnwatch`, and a Standard Webhooks signature where a secret is set.

pub mod payload;

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64;
use dawnwatch_engine::effect::Notification;
use jiff::Timestamp;
use ring::hmac;
use ureq::Agent;
use ureq::http::{Response, StatusCode, Uri};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::unversioned::transport::DefaultConnector;

use super::address::{Addresses, Found};
use super::{Again, Failure, Notifier, Now, Secret, answer, trust};

/// Begins a signing secret that is written in base64, as Standard Webhooks has it.
pub const SIGNATURE_PREFIX: &str = "whsec_";

/// Time for one attempt, name lookup included: a receiver that needs longer is not receiving.
const ATTEMPT_SECONDS: u64 = 10;

/// Most of a reply that is read: it is kept only in part, and a receiver may send anything.
const REPLY_BYTES_MAX: u64 = 64 * 1024;

const MALFORMED: &str = "the url is malformed: correct it in the configuration";

/// How a webhook is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookSettings {
    /// Where to post; may hold a token.
    pub url: Secret,
    /// Signs every message.
    pub secret: Option<Secret>,
    /// Certificates to trust in place of the machine's list.
    pub ca_file: Option<PathBuf>,
}

/// Sends to one address.
#[derive(Debug)]
pub struct Webhook {
    settings: WebhookSettings,
    /// Made at the first attempt and after each without an answer, so that a certificate file which is mended or renewed is read again.
    agent: Option<Agent>,
    addresses: Option<Addresses>,
    found: Found,
    attempt: Duration,
}

impl Webhook {
    /// Makes the sender; nothing is opened before the first message.
    #[must_use]
    pub fn new(settings: WebhookSettings) -> Webhook {
        Webhook {
            addresses: addresses(settings.url.reveal()),
            settings,
            agent: None,
            found: Found::default(),
            attempt: Duration::from_secs(ATTEMPT_SECONDS),
        }
    }

    fn agent(&mut self) -> Result<Agent, Failure> {
        if let Some(agent) = &self.agent {
            return Ok(agent.clone());
        }
        let mut config = Agent::config_builder()
            .timeout_global(Some(self.attempt))
            .http_status_as_error(false)
            .max_redirects(0)
            // What leaves the site leaves by the configuration alone, not by the environment.
            .proxy(None)
            // A connection kept from the last message is closed by the far end as often as not.
            .max_idle_connections(0)
            .user_agent(concat!("dawnwatch/", env!("CARGO_PKG_VERSION")));
        if self.settings.url.reveal().starts_with("https:") {
            let roots = trust::roots(self.settings.ca_file.as_deref())?;
            let roots = roots
                .iter()
                .map(|root| Certificate::from_der(root).to_owned());
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let tls = TlsConfig::builder()
                .root_certs(RootCerts::from(roots))
                .unversioned_rustls_crypto_provider(provider)
                .build();
            config = config.tls_config(tls);
        }
        let connector = DefaultConnector::default();
        let agent = Agent::with_parts(config.build(), connector, self.found.clone());
        self.agent = Some(agent.clone());
        Ok(agent)
    }
}

impl Notifier for Webhook {
    fn deliver(&mut self, notification: &Notification, now: Now) -> Result<String, Failure> {
        let body = serde_json::to_vec(&payload::payload(notification))
            .map_err(|e| Failure::permanent(format!("cannot be written as JSON: {e}")))?;
        let Some(addresses) = &mut self.addresses else {
            return Err(Failure::permanent(MALFORMED));
        };
        self.found.set(addresses.find(now.boot_ms)?);
        let agent = self.agent()?;
        let mut request = agent
            .post(self.settings.url.reveal())
            .header("content-type", "application/json")
            .header("idempotency-key", header_value(&notification.key));
        if let Some(secret) = &self.settings.secret {
            let id = header_value(&notification.key);
            let seconds = now.wall.as_second();
            let signature = signature(secret.reveal(), &id, seconds, &body)?;
            request = request
                .header("webhook-id", id)
                .header("webhook-timestamp", seconds.to_string())
                .header("webhook-signature", signature);
        }
        match request.send(&body[..]) {
            Ok(response) => judge(response, now),
            Err(error) => {
                self.agent = None;
                Err(not_sent(&error))
            }
        }
    }
}

/// Where a URL leads; none where it is no URL.
fn addresses(url: &str) -> Option<Addresses> {
    let uri: Uri = url.parse().ok()?;
    let default = if uri.scheme_str() == Some("https") {
        443
    } else {
        80
    };
    Some(Addresses::of(
        uri.host()?,
        uri.port_u16().unwrap_or(default),
    ))
}

/// A key as a header can carry it: visible ASCII.
fn header_value(key: &str) -> String {
    key.chars()
        .map(|c| if c.is_ascii_graphic() { c } else { '_' })
        .collect()
}

/// The key that signs: after `whsec_` base64, else the bytes as they are. None where it is empty or malformed.
pub(crate) fn signing_key(secret: &str) -> Option<Vec<u8>> {
    let key = match secret.strip_prefix(SIGNATURE_PREFIX) {
        Some(encoded) => BASE64.decode(encoded.as_bytes()).ok()?,
        None => secret.as_bytes().to_vec(),
    };
    (!key.is_empty()).then_some(key)
}

/// `v1,base64(HMAC-SHA256(id.timestamp.body))` of Standard Webhooks.
fn signature(secret: &str, id: &str, seconds: i64, body: &[u8]) -> Result<String, Failure> {
    let Some(key) = signing_key(secret) else {
        return Err(Failure::permanent("the secret is empty or malformed"));
    };
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    let mut signing = hmac::Context::with_key(&key);
    signing.update(format!("{id}.{seconds}.").as_bytes());
    signing.update(body);
    Ok(format!("v1,{}", BASE64.encode(signing.sign().as_ref())))
}

/// No answer at all.
fn not_sent(error: &ureq::Error) -> Failure {
    if let ureq::Error::BadUri(_) | ureq::Error::Http(_) = error {
        return Failure::permanent(MALFORMED);
    }
    Failure::transient(format!("no answer: {error}"))
}

/// What the answer means.
fn judge(mut response: Response<ureq::Body>, now: Now) -> Result<String, Failure> {
    let status = response.status();
    let retry_after = response
        .headers()
        .get("retry-after")
        .and_then(|value| value.to_str().ok())
        .and_then(|value| retry_after(value, now.wall));
    let mut reply = Vec::new();
    // A reply that breaks off takes nothing back: the status was said.
    let read = response
        .body_mut()
        .as_reader()
        .take(REPLY_BYTES_MAX)
        .read_to_end(&mut reply);
    if let Err(error) = read {
        tracing::debug!(%error, "reply broke off");
    }
    let said = format!("{} {}", status.as_u16(), String::from_utf8_lossy(&reply));
    if status.is_success() {
        return Ok(answer(&said));
    }
    let why = answer(&said);
    if status.is_redirection() {
        let why = format!(
            "{}: redirects are not followed; set the final URL",
            status.as_u16()
        );
        return Err(Failure::permanent(why));
    }
    let later = status.is_server_error()
        || [
            StatusCode::REQUEST_TIMEOUT,
            StatusCode::CONFLICT,
            StatusCode::TOO_EARLY,
            StatusCode::TOO_MANY_REQUESTS,
        ]
        .contains(&status);
    if !later {
        return Err(Failure::permanent(why));
    }
    let again = retry_after.map_or(Again::Backoff, Again::After);
    Err(Failure::Transient { why, again })
}

/// `Retry-After`: seconds, or a date.
fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    let seconds = until.as_second().saturating_sub(now.as_second());
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

#[cfg(test)]
mod tests;
