//! One connection, from hello to its end: the sockets around a [`Course`].

use std::error::Error;
use std::time::Duration;

use dawnwatch_proto::MESSAGE_BYTES_MAX;
use dawnwatch_proto::pb::telemetry_client::TelemetryClient;
use dawnwatch_proto::pb::{self, from_server};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use super::course::{Course, End, Now};
use super::{Dial, Shared, Uplink};
use crate::clock::Clock;

/// Messages handed to the connection ahead of what it has sent: one, so that a heartbeat waits for little.
const QUEUE_MAX: usize = 1;

/// Wait after "the server's disk is full" where it names no time, and up to as much again: with each try the server hears that this
/// host is alive, and after 30 s without it calls it silent.
const FULL_WAIT: Duration = Duration::from_secs(8);

/// A stream that was welcomed.
#[derive(Debug)]
pub(super) struct Session<'a> {
    shared: &'a Shared,
    clock: Clock,
    outbound: mpsc::Sender<pb::FromAgent>,
    host_name: String,
    course: Course,
}

fn now(clock: Clock) -> Now {
    Now {
        wall: clock.wall(),
        boot_ms: clock.boot_ms(),
    }
}

impl<D: Dial> Uplink<'_, D> {
    /// Says hello and waits for the welcome.
    pub(super) async fn open(
        &self,
        channel: Channel,
    ) -> Result<(Session<'_>, Streaming<pb::FromServer>), End> {
        let (outbound, queue) = mpsc::channel(QUEUE_MAX);
        let (mut course, hello) = Course::begin(
            self.shared,
            self.facts,
            self.timing.heartbeat,
            now(self.clock),
        );
        outbound
            .try_send(hello)
            .map_err(|_| End::Later("the stream closed at once".to_owned()))?;
        let mut client = TelemetryClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let greeting = async {
            let mut inbound = client
                .stream(ReceiverStream::new(queue))
                .await?
                .into_inner();
            let first = inbound.message().await?;
            Ok::<_, Status>((inbound, first))
        };
        let (inbound, first) = tokio::time::timeout(self.timing.welcome, greeting)
            .await
            .map_err(|_| End::Later("the server took the stream and said nothing".to_owned()))?
            .map_err(|status| end_of(&status))?;
        let welcome = course.welcome(self.shared, first, now(self.clock))?;
        self.dial.welcomed(welcome.server_wall_ms);
        let session = Session {
            shared: self.shared,
            clock: self.clock,
            outbound,
            host_name: welcome.host_name,
            course,
        };
        Ok((session, inbound))
    }
}

impl Session<'_> {
    pub(super) fn host_name(&self) -> &str {
        &self.host_name
    }

    /// Sends and listens until the stream ends.
    pub(super) async fn run(
        self,
        mut inbound: Streaming<pb::FromServer>,
        is_first_ack_told: &mut bool,
    ) -> End {
        let Session {
            shared,
            clock,
            outbound,
            mut course,
            ..
        } = self;
        loop {
            if let Err(end) = course.fill(shared, now(clock)) {
                return end;
            }
            let idle = Duration::from_millis(course.idle_ms(now(clock)));
            tokio::select! {
                biased;
                said = inbound.message() => match said {
                    Ok(Some(message)) => {
                        tell_first_ack(&message, is_first_ack_told);
                        if let Err(end) = course.heard(shared, message, now(clock)) {
                            return end;
                        }
                    }
                    Ok(None) => return End::Later("the server closed the stream".to_owned()),
                    Err(status) => return end_of(&status),
                },
                place = outbound.reserve(), if course.has_message() => match place {
                    Ok(place) => {
                        if let Some(message) = course.next_message() {
                            place.send(message);
                        }
                    }
                    // The reason is on the inbound side, if there is one.
                    Err(_) => return reason(inbound.message().await),
                },
                () = shared.appended(), if course.is_caught_up() => {}
                () = shared.renewed() => {
                    return End::Again("a fresh certificate takes a new connection".to_owned());
                }
                () = tokio::time::sleep(idle) => course.beat(shared, now(clock)),
            }
        }
    }
}

fn tell_first_ack(message: &pb::FromServer, is_told: &mut bool) {
    if matches!(message.body, Some(from_server::Body::Ack(_))) && !*is_told {
        *is_told = true;
        tracing::info!("first sample acknowledged");
    }
}

fn reason(said: Result<Option<pb::FromServer>, Status>) -> End {
    match said {
        Err(status) => end_of(&status),
        Ok(_) => End::Later("the server closed the stream".to_owned()),
    }
}

/// What a status means for the next try.
fn end_of(status: &Status) -> End {
    let text = status.message();
    match status.code() {
        Code::Unauthenticated => End::Unauthenticated(format!(
            "the server refuses this host's certificate: {text}; its spool is kept"
        )),
        Code::PermissionDenied => End::Refused(format!(
            "the server refuses this host: {text}; its spool is kept"
        )),
        Code::FailedPrecondition => End::Refused(text.to_owned()),
        Code::InvalidArgument => End::Refused(format!(
            "the server does not understand this agent: {text}; same version on both?"
        )),
        Code::ResourceExhausted => End::After(
            retry_after(status).unwrap_or(FULL_WAIT),
            format!("the server takes nothing: {text}"),
        ),
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => End::Later(plain(status)),
    }
}

/// The wait that a server names in gRPC's own header for it, milliseconds.
fn retry_after(status: &Status) -> Option<Duration> {
    let value = status.metadata().get("grpc-retry-pushback-ms")?;
    value.to_str().ok()?.parse().ok().map(Duration::from_millis)
}

/// Why a stream broke, as an admin would say it; the innermost cause says more than "transport error".
fn plain(status: &Status) -> String {
    let mut cause = Error::source(status);
    let mut text = status.message().to_owned();
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    // The causes are texts by the time they come here: HTTP/2 keeps the sentence of an I/O error, and not the error.
    let known = ENDS.iter().find(|(part, _)| text.contains(part));
    match known {
        Some((_, told)) => (*told).to_owned(),
        None if text.is_empty() => format!("{:?}", status.code()),
        None => text,
    }
}

/// The ways in which a connection ends: a part of what is said below, and what it means.
const ENDS: [(&str, &str); 5] = [
    (
        "close_notify",
        "the server closed it without a word: it was killed, or something between cut it",
    ),
    (
        "reset by peer",
        "it was reset: the server was killed, or something between cut it",
    ),
    (
        "timed out",
        "no answer: the server hangs, or the network between is cut",
    ),
    // Where a keep-alive is not answered, too.
    (
        "broken pipe",
        "no answer: the server hangs or is gone, or the network between is cut",
    ),
    ("Broken pipe", "the server closed it"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_says_what_comes_next() {
        for (code, refused) in [
            (Code::Unauthenticated, false),
            (Code::PermissionDenied, true),
            (Code::FailedPrecondition, true),
            (Code::InvalidArgument, true),
            (Code::Unavailable, false),
            (Code::Unknown, false),
        ] {
            let end = end_of(&Status::new(code, "re-join with: dawnwatch-agent join"));
            assert_eq!(matches!(end, End::Refused(_)), refused, "{end:?}");
            let (End::Refused(why)
            | End::Unauthenticated(why)
            | End::Later(why)
            | End::Again(why)
            | End::After(_, why)) = end;
            assert!(why.contains("re-join with"), "{why}");
        }
        let cut = "peer closed connection without sending TLS close_notify: https://docs.rs/rustls";
        let End::Later(why) = end_of(&Status::unknown(cut)) else {
            panic!("a cut is no refusal");
        };
        assert!(why.starts_with("the server closed it"), "{why}");
        let mut full = Status::resource_exhausted("disk full");
        assert!(matches!(end_of(&full), End::After(FULL_WAIT, _)));
        full.metadata_mut()
            .insert("grpc-retry-pushback-ms", "1500".parse().unwrap());
        let wait = Duration::from_millis(1_500);
        assert!(matches!(end_of(&full), End::After(w, _) if w == wait));
    }
}
