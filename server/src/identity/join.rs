//! The gRPC service for joining and renewing: the only calls that work without a valid client certificate.

use std::fmt;
use std::sync::Arc;

use dawnwatch_proto::pb::{self, enrolment_server};
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

use super::enrol::{JoinRefusal, Joined, RenewProof};
use super::{HostRecord, Identity, IdentityError, Now, Peer, certificate};

/// Each enrolment waits for the disk, on a thread of its own: those that wait at the same time share one write of the document.
const ENROLMENTS_AT_ONCE: usize = 64;

/// Told of every host that joined or changed, after it is stored.
pub type OnHost = Box<dyn Fn(&HostRecord) + Send + Sync>;

/// The service; see [`Identity`] for what it decides.
pub struct Enrolment {
    inner: Arc<Inner>,
    places: Semaphore,
}

struct Inner {
    identity: Arc<Identity>,
    now: Now,
    on_host: OnHost,
}

impl fmt::Debug for Enrolment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Enrolment")
            .field("identity", &self.inner.identity)
            .finish_non_exhaustive()
    }
}

impl Enrolment {
    /// A service over this identity. `on_host` hears of every host that joined or changed, after it is stored; a crash in
    /// between loses the call and not the host, so the app also goes through [`Identity::hosts`] when it starts.
    #[must_use]
    pub fn new(identity: Arc<Identity>, now: Now, on_host: OnHost) -> Enrolment {
        let inner = Arc::new(Inner {
            identity,
            now,
            on_host,
        });
        Enrolment {
            inner,
            places: Semaphore::new(ENROLMENTS_AT_ONCE),
        }
    }

    /// Runs what waits for the disk off the sockets' threads, a few at a time.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, Status> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        let _place = self
            .places
            .acquire()
            .await
            .map_err(|_| Status::unavailable("stopping"))?;
        let inner = self.inner.clone();
        let done = tokio::task::spawn_blocking(move || work(&inner)).await;
        match done {
            Ok(result) => result.map(Response::new),
            Err(error) => {
                tracing::error!(%error, "an enrolment broke off");
                Err(Status::internal(
                    "the server could not finish: its log says why",
                ))
            }
        }
    }
}

#[tonic::async_trait]
impl enrolment_server::Enrolment for Enrolment {
    async fn join(
        &self,
        request: Request<pb::JoinRequest>,
    ) -> Result<Response<pb::JoinReply>, Status> {
        let from = request
            .extensions()
            .get::<Peer>()
            .map(|peer| peer.addr.to_string());
        let request = request.into_inner();
        self.run(move |inner| inner.join(&request, from.as_deref().unwrap_or("?")))
            .await
    }

    async fn renew(
        &self,
        request: Request<pb::RenewRequest>,
    ) -> Result<Response<pb::RenewReply>, Status> {
        let peer = request.extensions().get::<Peer>().copied();
        let request = request.into_inner();
        self.run(move |inner| inner.renew(request, peer)).await
    }
}

impl Inner {
    fn join(&self, request: &pb::JoinRequest, from: &str) -> Result<pb::JoinReply, Status> {
        let now = (self.now)();
        let joined = self
            .identity
            .join(request, now)
            .map_err(|refusal| refused(&refusal, from))?;
        let Joined { host, chain, again } = joined;
        let (id, name) = (host.id, host.name.as_str());
        tracing::info!(%id, name, from, again, version = request.agent_version, "host joined");
        (self.on_host)(&host);
        Ok(pb::JoinReply {
            host_id: id.to_string(),
            ca: chain.last().map(|ca| ca.to_vec()).unwrap_or_default(),
            chain: certificate::ders(&chain),
            server_wall_ms: now.as_millisecond(),
            host_name: host.name,
        })
    }

    fn renew(
        &self,
        request: pb::RenewRequest,
        peer: Option<Peer>,
    ) -> Result<pb::RenewReply, Status> {
        let now = (self.now)();
        let from = peer.map_or_else(|| "?".to_owned(), |peer| peer.addr.to_string());
        let proof = match peer.and_then(|peer| peer.host) {
            Some(proven) => RenewProof::Tls(proven),
            None => RenewProof::Signature {
                certificate: CertificateDer::from(request.certificate),
                proof: request.proof,
            },
        };
        let renewed = self.identity.renew(&proof, &request.csr, now);
        let chain = renewed.map_err(|refusal| refused(&refusal, &from))?;
        Ok(reply(&chain, now))
    }
}

fn reply(chain: &[CertificateDer<'static>], now: Timestamp) -> pb::RenewReply {
    pb::RenewReply {
        ca: chain.last().map(|ca| ca.to_vec()).unwrap_or_default(),
        chain: certificate::ders(chain),
        server_wall_ms: now.as_millisecond(),
    }
}

/// What the agent is told; what is none of its business goes to the log alone.
fn refused(refusal: &JoinRefusal, from: &str) -> Status {
    match refusal {
        JoinRefusal::Token(why) => {
            tracing::warn!(from, why, "refused a join token");
            Status::permission_denied(refusal.to_string())
        }
        JoinRefusal::KeySpent => {
            tracing::info!(from, "asked for a fresh key");
            Status::failed_precondition(refusal.to_string())
        }
        JoinRefusal::Request(_) => {
            tracing::warn!(from, %refusal, "refused an enrolment");
            Status::invalid_argument(refusal.to_string())
        }
        JoinRefusal::Proof => {
            tracing::warn!(from, "refused a renewal without proof");
            Status::unauthenticated(refusal.to_string())
        }
        JoinRefusal::Host(why) => {
            tracing::warn!(from, %why, "refused a renewal");
            Status::from(why.clone())
        }
        JoinRefusal::TooLate { .. } => {
            tracing::warn!(from, %refusal, "refused a renewal");
            Status::permission_denied(refusal.to_string())
        }
        JoinRefusal::Server(error @ IdentityError::Full { .. }) => {
            tracing::error!(from, %error, "enrolment failed");
            Status::resource_exhausted(error.to_string())
        }
        JoinRefusal::Server(error) => {
            tracing::error!(from, %error, "enrolment failed");
            Status::unavailable("the server could not store the host: its log says why; try again")
        }
    }
}
