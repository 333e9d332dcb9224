//! Puts the port for people up.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dawnwatch_engine::input::Input;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::start::{Failed, Options, Page};
use super::{Clock, People, Submit, notice, submit_soon};
use crate::config::{Settings, WebSettings};
use crate::web::listener::{self, Limits};
use crate::web::tls::Certificate;
use crate::web::{self, Site, Web};

/// The files of the certificate are looked at this often.
const CERTIFICATE_EVERY: Duration = Duration::from_secs(5);

/// Wrong passwords are noted in the ledger together, this often.
const FAILURES_EVERY: Duration = Duration::from_secs(60);

/// The port for people, bound and not served yet.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) settings: WebSettings,
    listener: TcpListener,
    pub(super) address: SocketAddr,
    certificate: Option<Arc<Certificate>>,
}

impl Port {
    /// Binds it before anything else is opened, so that a start that cannot serve people says so at once. None where it is off.
    pub(super) async fn bind(
        options: &Options,
        settings: &Settings,
    ) -> Result<Option<Port>, Failed> {
        let settings = settings.web.clone();
        let Some(address) = options.web.or(settings.listen) else {
            return Ok(None);
        };
        settings.may_listen(address).map_err(Failed::Unencrypted)?;
        let certificate = settings.tls.as_ref().map(Certificate::load).transpose()?;
        let failed = |source| Failed::Web { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Some(Port {
            settings,
            listener,
            address,
            certificate,
        }))
    }

    /// How people reach it; `host` is what this machine is called.
    pub(super) fn site(&self, host: &str) -> Site {
        let (ip, port) = (self.address.ip(), self.address.port());
        let named = self.settings.names.first();
        let url = match named {
            // The port that a proxy listens on is its own affair: 443 as a rule.
            Some(name) if !self.settings.behind_proxy.is_empty() => format!("https://{name}/"),
            Some(name) if self.certificate.is_some() => format!("https://{name}:{port}/"),
            Some(_) | None => {
                let scheme = if self.certificate.is_some() {
                    "https"
                } else {
                    "http"
                };
                let host = if ip.is_unspecified() {
                    format!("{host}:{port}")
                } else {
                    self.address.to_string()
                };
                format!("{scheme}://{host}/")
            }
        };
        let alone = ip.to_canonical().is_loopback() && self.settings.behind_proxy.is_empty();
        let tunnel = alone.then(|| format!("ssh -N -L {port}:{} root@{host}", self.address));
        Site { url, tunnel }
    }

    /// Serves it until the server stops.
    pub(super) fn serve(
        self,
        web: &Arc<Web>,
        journal: mpsc::Sender<Submit>,
    ) -> Result<tokio::task::JoinHandle<()>, Failed> {
        let tls = self.certificate.as_ref().map(Certificate::config);
        let tls = tls.transpose()?;
        let stopped = web.state.stopped.clone();
        let router = web::router(web);
        let served = listener::serve(
            self.listener,
            tls,
            router,
            Limits::default(),
            stopped.clone(),
        );
        let (certificate, noted) = (self.certificate, Arc::clone(web));
        Ok(tokio::spawn(async move {
            let mut stopped = stopped;
            tokio::select! {
                () = served => {}
                () = follow(certificate, &journal) => {}
                () = tell_failures(&noted) => {}
            }
            noted.note_failures();
            let _ = stopped.wait_for(|stop| *stop).await;
        }))
    }
}

/// What to print about the page. At the first start a link comes with it for whoever becomes the first admin.
pub(super) fn page(
    address: SocketAddr,
    site: Site,
    people: &People,
    clock: Clock,
) -> Result<Page, Failed> {
    let link = if people.is_first() {
        let code = people.admin_link(clock.wall()).map_err(Failed::People)?;
        Some(site.link(&code))
    } else {
        None
    };
    Ok(Page {
        address,
        site,
        link,
        lacks_admin: people.lacks_admin(),
    })
}

/// Has wrong passwords noted together, for ever.
async fn tell_failures(web: &Web) {
    loop {
        tokio::time::sleep(FAILURES_EVERY).await;
        web.note_failures();
    }
}

/// Takes changed certificates up, for ever.
async fn follow(certificate: Option<Arc<Certificate>>, journal: &mpsc::Sender<Submit>) {
    let Some(certificate) = certificate else {
        return std::future::pending().await;
    };
    let mut failing = String::new();
    loop {
        tokio::time::sleep(CERTIFICATE_EVERY).await;
        let looked = Arc::clone(&certificate);
        let Ok(reloaded) = tokio::task::spawn_blocking(move || looked.reload()).await else {
            continue;
        };
        match reloaded {
            Ok(false) => {}
            Ok(true) => {
                tracing::info!("the page's certificate was taken up anew");
                if !std::mem::take(&mut failing).is_empty() {
                    submit_soon(journal, notice("page certificate", ""));
                }
            }
            Err(error) => {
                let error = error.to_string();
                if error != failing {
                    tracing::warn!(error, "the page's certificate was not taken up");
                    let text = format!("not taken up, the one before is served on: {error}");
                    let input: Input = notice("page certificate", &text);
                    submit_soon(journal, input);
                    failing = error;
                }
            }
        }
    }
}
