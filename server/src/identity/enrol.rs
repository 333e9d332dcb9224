//! The decisions behind joining and renewing.
//!
//! | asks | with | gets |
//! |---|---|---|
//! | a host nobody knows | a token that is good | a host id, generation 1; one use is gone |
//! | the same machine under the same name | a token that is good | its old id, the next generation; one use is gone |
//! | a key that was certified by this token | the token, even used up | the same generation once more; no use is gone |
//! | a host | a certificate that still counts | the next generation |
//!
//! Machines are told apart by machine-id **and** name: cloned machines often share the one, and must not share a history.

use std::sync::Arc;

use dawnwatch_proto::{HostId, pb};
use jiff::{SignedDuration, Timestamp};
use rcgen::SubjectPublicKeyInfo;
use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

use super::state::{self, HostRecord, Issued, State, TokenRecord, hex};
use super::{Identity, IdentityError, Proven, Refusal, certificate, tls, tokens};

/// How long after its end a certificate still proves who renews: a host may be off for a season.
pub const GRACE: SignedDuration = SignedDuration::from_hours(90 * 24);

/// Ten times the fleet that one server is made for.
pub const HOSTS_MAX: usize = 20_000;

/// What an expired certificate's key signs, before the request's bytes.
const PROOF_PREFIX: &[u8] = b"dawnwatch renew";

/// A machine's hash is 64 hex digits.
const MACHINE_CHARS: usize = 64;

/// Why somebody may not join or renew.
#[derive(Debug, thiserror::Error)]
pub enum JoinRefusal {
    /// The token is not good. Whatever the reason, the text is the same: it tells a guesser nothing.
    #[error(
        "join token refused: wrong, used up or expired; make a new one on the server: dawnwatch token create"
    )]
    Token(&'static str),
    /// The key was certified before, and what it was given is over: it may be what was stolen.
    #[error("this key was given a certificate before, which is over: use a fresh key")]
    KeySpent,
    /// The request is not one that our agent sends.
    #[error("the request is malformed: {0}")]
    Request(String),
    /// Nothing proves who renews.
    #[error("nothing proves that this is the host whose certificate is to be renewed")]
    Proof,
    /// The host may not speak.
    #[error(transparent)]
    Host(#[from] Refusal),
    /// The certificate ended too long ago.
    #[error(
        "the certificate of {name} ended on {ended}, too long ago to renew: re-join with: dawnwatch-agent join SERVER LINE (dawnwatch token create on the server prints a line)"
    )]
    TooLate {
        /// The host's name.
        name: String,
        /// When it ended.
        ended: Timestamp,
    },
    /// The server cannot.
    #[error(transparent)]
    Server(#[from] IdentityError),
}

/// A host that joined.
#[derive(Debug)]
pub(super) struct Joined {
    pub(super) host: HostRecord,
    /// Its certificate, then the CA's.
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// Whether it was known before.
    pub(super) again: bool,
}

/// What proves who renews.
#[derive(Debug)]
pub(super) enum RenewProof {
    /// The connection's client certificate.
    Tls(Proven),
    /// A signature by the certificate's key.
    Signature {
        certificate: CertificateDer<'static>,
        proof: Vec<u8>,
    },
}

/// What is sought in the document.
struct Wish<'a> {
    token: &'a str,
    asked: String,
    machine: &'a str,
    key: String,
    fresh_id: HostId,
    now: Timestamp,
}

impl Identity {
    /// Trades a token and a request for a host and its certificate.
    pub(super) fn join(
        &self,
        request: &pb::JoinRequest,
        now: Timestamp,
    ) -> Result<Joined, JoinRefusal> {
        // Before anything costly: whoever has no token gets no further.
        proven_token(&self.state.load(), &request.token_id, &request.secret)?;
        let machine = machine(&request.machine)?;
        let (key, key_hash) = certificate::csr_key(&request.csr).map_err(JoinRefusal::Request)?;
        let random = u128::from_be_bytes(self.random()?);
        let wish = Wish {
            token: &request.token_id,
            asked: state::clean_name(&request.hostname),
            machine,
            key: hex(&key_hash),
            fresh_id: HostId::v7(u64::try_from(now.as_millisecond()).unwrap_or(0), random),
            now,
        };
        self.change(|state| {
            // Again: it may have been taken back in the meantime.
            proven_token(state, &request.token_id, &request.secret)?;
            let (host, generation, again) = enrol(state, &wish)?;
            let chain = self
                .authority
                .load()
                .host_chain(&key, host.id, generation, now)?;
            Ok(Joined { host, chain, again })
        })
    }

    /// Trades a certificate that still counts, or ended not long ago, for the next one.
    pub(super) fn renew(
        &self,
        proof: &RenewProof,
        csr: &[u8],
        now: Timestamp,
    ) -> Result<Vec<CertificateDer<'static>>, JoinRefusal> {
        let proven = match proof {
            RenewProof::Tls(proven) => *proven,
            RenewProof::Signature { certificate, proof } => {
                self.by_signature(certificate, proof, csr)?
            }
        };
        let host = self.standing(&proven)?;
        if now
            > proven
                .not_after
                .saturating_add(GRACE)
                .unwrap_or(Timestamp::MAX)
        {
            return Err(JoinRefusal::TooLate {
                name: host.name,
                ended: proven.not_after,
            });
        }
        let (key, key_hash) = certificate::csr_key(csr).map_err(JoinRefusal::Request)?;
        self.change(|state| {
            let host = state.host_mut(proven.id).ok_or(Refusal::Unknown(proven.id))?;
            let generation = next_generation(host, &proven, &hex(&key_hash), now);
            tracing::info!(host = %proven.id, name = host.name, generation, "renewed a certificate");
            self.chain(&key, proven.id, generation, now)
        })
    }

    fn chain(
        &self,
        key: &SubjectPublicKeyInfo,
        id: HostId,
        generation: u64,
        now: Timestamp,
    ) -> Result<Vec<CertificateDer<'static>>, JoinRefusal> {
        Ok(self.authority.load().host_chain(key, id, generation, now)?)
    }

    fn by_signature(
        &self,
        leaf: &CertificateDer<'_>,
        proof: &[u8],
        csr: &[u8],
    ) -> Result<Proven, JoinRefusal> {
        let proven = certificate::proven(leaf).ok_or(JoinRefusal::Proof)?;
        if !tls::is_host_of(&self.authority.load().certificate, leaf) {
            return Err(JoinRefusal::Proof);
        }
        let signed = [PROOF_PREFIX, csr].concat();
        let cert = EndEntityCert::try_from(leaf).map_err(|_| JoinRefusal::Proof)?;
        cert.verify_signature(webpki::ring::ECDSA_P256_SHA256, &signed, proof)
            .map_err(|_| JoinRefusal::Proof)?;
        Ok(proven)
    }
}

/// The token of this id, if the secret is its own and nobody took it back.
fn proven_token<'a>(
    state: &'a State,
    id: &str,
    secret: &str,
) -> Result<&'a TokenRecord, JoinRefusal> {
    let token = state
        .tokens
        .get(id)
        .ok_or(JoinRefusal::Token("no such token"))?;
    // Hashes are compared: how long it takes says nothing of the secret.
    if token.secret != tokens::hash(secret) {
        return Err(JoinRefusal::Token("wrong secret"));
    }
    if token.revoked {
        return Err(JoinRefusal::Token("taken back"));
    }
    Ok(token)
}

/// Finds or makes the host in the document, and says which generation it gets and whether it was known.
fn enrol(state: &mut State, wish: &Wish<'_>) -> Result<(HostRecord, u64, bool), JoinRefusal> {
    if let Some((host, generation)) = certified_before(state, wish)? {
        return Ok((host, generation, true));
    }
    let labels = use_token(state, wish)?;
    let same = |host: &&Arc<HostRecord>| {
        !wish.machine.is_empty() && host.machine == wish.machine && host.asked == wish.asked
    };
    let known = state.hosts.values().find(same).map(|host| host.id);
    let again = known.is_some();
    if !again && state.hosts.len() >= HOSTS_MAX {
        let remedy = "retired hosts count as well; a larger site needs a second server";
        return Err(IdentityError::Full {
            what: "hosts",
            limit: HOSTS_MAX,
            remedy,
        }
        .into());
    }
    let id = known.unwrap_or(wish.fresh_id);
    let name = state.free_name(&wish.asked, id);
    let fresh = || HostRecord {
        id,
        name,
        asked: wish.asked.clone(),
        machine: wish.machine.to_owned(),
        joined: wish.now,
        labels: Vec::new(),
        generation: 1,
        issued: Vec::new(),
        denied: 0,
        retired: None,
        aliases: Vec::new(),
        merged: None,
        erased: None,
    };
    let host = state.hosts.entry(id);
    let host = Arc::make_mut(host.or_insert_with(|| Arc::new(fresh())));
    if !labels.is_empty() {
        host.labels = labels;
    }
    if host.retired.take().is_some() {
        // What it was given before it left stays over.
        host.denied = host.newest();
    }
    let generation = if again { host.newest() + 1 } else { 1 };
    host.note(Issued {
        generation,
        key: wish.key.clone(),
        token: wish.token.to_owned(),
        at: wish.now,
    });
    Ok((host.clone(), generation, again))
}

/// The host that has a certificate over this very key by this very token: the answer was lost, or the command ran twice.
fn certified_before(
    state: &State,
    wish: &Wish<'_>,
) -> Result<Option<(HostRecord, u64)>, JoinRefusal> {
    for host in state.hosts.values() {
        let Some(issued) = host.issued.iter().find(|issued| issued.key == wish.key) else {
            continue;
        };
        let over = issued.generation < host.generation || issued.generation <= host.denied;
        if over || host.retired.is_some() || issued.token != wish.token {
            return Err(JoinRefusal::KeySpent);
        }
        return Ok(Some((HostRecord::clone(host), issued.generation)));
    }
    Ok(None)
}

/// Takes one use of the token, and gives its labels.
fn use_token(state: &mut State, wish: &Wish<'_>) -> Result<Vec<(String, String)>, JoinRefusal> {
    let token = state
        .tokens
        .get_mut(wish.token)
        .ok_or(JoinRefusal::Token("no such token"))?;
    if wish.now >= token.expires {
        return Err(JoinRefusal::Token("expired"));
    }
    token.uses_left = token
        .uses_left
        .checked_sub(1)
        .ok_or(JoinRefusal::Token("used up"))?;
    Ok(token.labels.clone())
}

/// The generation of a renewal: one further, or the same once more where this key has it already.
fn next_generation(host: &mut HostRecord, proven: &Proven, key: &str, now: Timestamp) -> u64 {
    if let Some(issued) = host.issued.iter().find(|issued| issued.key == key) {
        return issued.generation;
    }
    let generation = host.newest().max(proven.generation) + 1;
    let of_proven = host
        .issued
        .iter()
        .find(|issued| issued.generation == proven.generation);
    let token = of_proven
        .map(|issued| issued.token.clone())
        .unwrap_or_default();
    host.note(Issued {
        generation,
        key: key.to_owned(),
        token,
        at: now,
    });
    generation
}

fn machine(text: &str) -> Result<&str, JoinRefusal> {
    let hex = text.len() == MACHINE_CHARS && text.bytes().all(|b| b.is_ascii_hexdigit());
    if hex || text.is_empty() {
        return Ok(text);
    }
    Err(JoinRefusal::Request(
        "machine is no SHA-256 in hex".to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn state(uses: u32) -> State {
        let mut state = State::default();
        let token = TokenRecord {
            id: "tok".to_owned(),
            secret: tokens::hash("secret"),
            created: at(0),
            expires: at(1_000),
            uses,
            uses_left: uses,
            labels: vec![("site".to_owned(), "hq".to_owned())],
            revoked: false,
        };
        state.tokens.insert(token.id.clone(), token);
        state
    }

    fn wish<'a>(name: &str, machine: &'a str, key: &str, second: i64) -> Wish<'a> {
        let fresh_id = HostId::v7(u64::try_from(second).unwrap(), 7);
        Wish {
            token: "tok",
            asked: name.to_owned(),
            machine,
            key: key.to_owned(),
            fresh_id,
            now: at(second),
        }
    }

    fn join(state: &mut State, wish: &Wish<'_>) -> Result<(HostId, String, u64), &'static str> {
        match enrol(state, wish) {
            Ok((host, generation, _)) => Ok((host.id, host.name, generation)),
            Err(JoinRefusal::Token(why)) => Err(why),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn the_same_machine_keeps_its_id_and_a_clone_gets_its_own() {
        let mut state = state(9);
        let (id, name, generation) = join(&mut state, &wish("web01", "m1", "k1", 1)).unwrap();
        assert_eq!((name.as_str(), generation), ("web01", 1));
        let again = join(&mut state, &wish("web01", "m1", "k2", 2)).unwrap();
        assert_eq!(again, (id, "web01".to_owned(), 2));
        let clone = join(&mut state, &wish("web02", "m1", "k3", 3)).unwrap();
        assert_eq!(
            (clone.0 == id, clone.1.as_str(), clone.2),
            (false, "web02", 1)
        );
        let other = join(&mut state, &wish("web01", "m2", "k4", 4)).unwrap();
        assert_eq!(
            (other.0 == id, other.1.as_str(), other.2),
            (false, "web01-2", 1)
        );
        let nameless = join(&mut state, &wish("web01", "", "k5", 5)).unwrap();
        assert_eq!(
            nameless.1, "web01-3",
            "without a machine-id nobody is the same"
        );
        let again = join(&mut state, &wish("web01", "m2", "k6", 6)).unwrap();
        assert_eq!(
            (again.0, again.1, again.2),
            (other.0, other.1, 2),
            "web01-2 stays web01-2"
        );
        assert_eq!(state.tokens["tok"].uses_left, 3);
        assert_eq!(
            state.hosts[&id].labels,
            [("site".to_owned(), "hq".to_owned())]
        );
        assert_eq!(state.hosts[&id].joined, at(1));
    }

    #[test]
    fn a_retry_costs_nothing_and_works_after_the_token_ran_out() {
        let mut state = state(1);
        let first = join(&mut state, &wish("web01", "m1", "k1", 1)).unwrap();
        for second in [2, 2_000] {
            assert_eq!(
                join(&mut state, &wish("web01", "m1", "k1", second)),
                Ok(first.clone())
            );
        }
        assert_eq!(
            join(&mut state, &wish("web01", "m1", "k2", 3)),
            Err("used up")
        );
        assert_eq!(
            join(&mut state, &wish("web01", "m1", "k2", 2_000)),
            Err("expired")
        );
        assert_eq!(state.hosts[&first.0].issued.len(), 1);
    }

    #[test]
    fn a_retired_host_comes_back_with_its_id_but_not_with_its_old_certificates() {
        let mut state = state(9);
        let (id, ..) = join(&mut state, &wish("web01", "m1", "k1", 1)).unwrap();
        state.host_mut(id).unwrap().retired = Some(at(2));
        assert_eq!(
            join(&mut state, &wish("web01", "m1", "k2", 3)).unwrap().2,
            2
        );
        let host = &state.hosts[&id];
        assert_eq!((host.retired, host.denied), (None, 1));
    }

    #[test]
    fn a_renewal_goes_one_further_and_a_retry_of_it_does_not() {
        let mut state = state(1);
        let (id, ..) = join(&mut state, &wish("web01", "m1", "k1", 1)).unwrap();
        let host = state.host_mut(id).unwrap();
        let proven = Proven {
            id,
            generation: 1,
            not_after: at(9),
        };
        assert_eq!(next_generation(host, &proven, "k2", at(2)), 2);
        assert_eq!(next_generation(host, &proven, "k2", at(3)), 2);
        assert_eq!(next_generation(host, &proven, "k3", at(4)), 3);
        let again = join(&mut state, &wish("web01", "m1", "k3", 5)).unwrap();
        assert_eq!(
            again.2, 3,
            "running join with the same line again is safe after a renewal"
        );
    }

    #[test]
    fn only_the_token_s_own_secret_counts() {
        let mut state = state(1);
        assert!(proven_token(&state, "tok", "secret").is_ok());
        for (id, secret) in [("tok", "Secret"), ("tok", ""), ("", ""), ("kot", "secret")] {
            let refusal = proven_token(&state, id, secret).unwrap_err();
            assert!(matches!(refusal, JoinRefusal::Token(_)), "{id} {secret}");
        }
        state.tokens.get_mut("tok").unwrap().revoked = true;
        assert!(proven_token(&state, "tok", "secret").is_err());
    }
}
