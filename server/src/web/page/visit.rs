//! Who looks, at what moment, in which colours; and the frame that all pages share.

use std::convert::Infallible;
use std::sync::Arc;

use askama::Template;
use askama::filters::HtmlSafe;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use dawnwatch_engine::View;
use dawnwatch_proto::review::Severity;
use dawnwatch_proto::review::text;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::de::DeserializeOwned;

use super::assets::{self, Assets};
use super::moment::Moment;
use super::problem;
use crate::api::Failure;
use crate::api::State;
use crate::api::answer::bad;
use crate::web::person::Person;

/// The cookie that keeps the colours; it says nothing about anybody.
pub(crate) const THEME_COOKIE: &str = "dawnwatch-theme";

/// Colours of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Theme {
    /// As the system says.
    #[default]
    Auto,
    Light,
    Dark,
}

impl Theme {
    const ALL: [Theme; 3] = [Theme::Auto, Theme::Light, Theme::Dark];

    /// How cookie, link and style call it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Theme::Auto => "auto",
            Theme::Light => "light",
            Theme::Dark => "dark",
        }
    }

    /// How people call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Theme::Auto => "as the system",
            Theme::Light => "light",
            Theme::Dark => "dark",
        }
    }

    /// The theme of this name.
    pub(crate) fn named(word: &str) -> Option<Theme> {
        Theme::ALL.into_iter().find(|theme| theme.word() == word)
    }

    fn of(headers: &HeaderMap) -> Theme {
        let cookies = headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok());
        let mut pairs = cookies
            .flat_map(|text| text.split(';'))
            .filter_map(|pair| pair.trim().split_once('='));
        let found = pairs.find(|(name, _)| *name == THEME_COOKIE);
        found
            .and_then(|(_, word)| Theme::named(word))
            .unwrap_or_default()
    }
}

/// One request for a page, and what it looks at.
#[derive(Debug)]
pub(crate) struct Visit {
    pub(crate) state: Arc<State>,
    /// Everything but history, as it stood at one moment.
    pub(crate) view: Arc<View>,
    pub(crate) at: Timestamp,
    pub(crate) zone: TimeZone,
    pub(crate) person: Option<Person>,
    theme: Theme,
    path: String,
}

impl FromRequestParts<Arc<State>> for Visit {
    type Rejection = Infallible;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &Arc<State>,
    ) -> Result<Visit, Infallible> {
        let view = state.published.view();
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Visit {
            at: state.clock.wall(),
            zone: text::zone(&view.now.zone),
            view,
            state: Arc::clone(state),
            person: parts.extensions.get::<Person>().cloned(),
            theme: Theme::of(&parts.headers),
            path: path.to_owned(),
        })
    }
}

/// What stands behind the `?`; what cannot be read is answered with a page that says so.
#[derive(Debug)]
pub(crate) struct Ask<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<Arc<State>> for Ask<T> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<State>) -> Result<Ask<T>, Response> {
        let wrong = match axum::extract::Query::try_from_uri(&parts.uri) {
            Ok(axum::extract::Query(found)) => return Ok(Ask(found)),
            Err(wrong) => wrong.body_text(),
        };
        let Ok(visit) = Visit::from_request_parts(parts, state).await;
        Err(visit.failed(bad(format!("the address cannot be read: {wrong}"))))
    }
}

impl Visit {
    /// The frame of a page.
    pub(crate) fn shell(&self, title: impl Into<String>, tab: &'static str) -> Shell {
        Shell {
            title: title.into(),
            tab,
            charts: false,
            theme: self.theme,
            back: self.path.clone(),
            person: self.person.clone(),
            strip: self.person.is_some().then(|| self.strip()),
            made: Some((self.view.now.zone.clone(), self.moment(self.at))),
            assets: assets::names(),
        }
    }

    /// What is open, in a line.
    pub(crate) fn strip(&self) -> Strip {
        let now = &self.view.now;
        Strip {
            open: now.open.len(),
            critical: now
                .open
                .iter()
                .filter(|one| one.severity == Severity::Critical)
                .count(),
            hosts: live(now.hosts_live, now.hosts),
            at: Moment::clock(self.at, &self.zone),
        }
    }

    /// A moment as it is said at the time of this visit.
    pub(crate) fn moment(&self, at: Timestamp) -> Moment {
        Moment::new(at, &self.zone, self.at)
    }

    /// The page, or the page that says why there is none.
    pub(crate) fn answer<T: Template>(&self, page: Result<T, Failure>) -> Response {
        match page {
            Ok(page) => draw(StatusCode::OK, &page),
            Err(failure) => self.failed(failure),
        }
    }

    /// The page that says why there is none.
    pub(crate) fn failed(&self, Failure(status, problem): Failure) -> Response {
        draw(status, &problem::page(self, status, &problem))
    }
}

/// `9 of 10 hosts live`.
pub(crate) fn live(live: u32, hosts: u32) -> String {
    match hosts {
        0 => "no host has joined yet".to_owned(),
        1 => format!("{live} of 1 host live"),
        hosts => format!("{live} of {hosts} hosts live"),
    }
}

/// Renders a page.
pub(crate) fn draw(status: StatusCode, page: &impl Template) -> Response {
    match page.render() {
        Ok(html) => (status, Html(html)).into_response(),
        Err(error) => {
            tracing::error!(%error, "page cannot be drawn");
            (
                StatusCode::INTERNAL_SERVER_ERROR,
                "the page cannot be drawn; see the server's log",
            )
                .into_response()
        }
    }
}

/// The line above every page: what is open at this moment.
#[derive(Debug, Template)]
#[template(path = "strip.html")]
pub(crate) struct Strip {
    open: usize,
    critical: usize,
    hosts: String,
    at: Moment,
}

impl HtmlSafe for Strip {}

/// What every page has around it.
#[derive(Debug)]
pub(crate) struct Shell {
    pub(crate) title: String,
    pub(crate) tab: &'static str,
    /// Whether the page has charts for the script.
    pub(crate) charts: bool,
    pub(crate) theme: Theme,
    pub(crate) back: String,
    pub(crate) person: Option<Person>,
    pub(crate) strip: Option<Strip>,
    /// The zone of times, and when the page was made.
    pub(crate) made: Option<(String, Moment)>,
    pub(crate) assets: &'static Assets,
}

/// One entry of the navigation.
#[derive(Debug)]
pub(crate) struct Tab {
    pub(crate) href: &'static str,
    pub(crate) name: &'static str,
    pub(crate) here: bool,
}

impl Shell {
    /// Whether the visitor may see more than the way in.
    pub(crate) fn inside(&self) -> bool {
        self.person.is_some()
    }

    /// The frame of a page for somebody of whom nothing is known.
    pub(crate) fn bare(title: impl Into<String>) -> Shell {
        Shell {
            title: title.into(),
            tab: "",
            charts: false,
            theme: Theme::Auto,
            back: "/".to_owned(),
            person: None,
            strip: None,
            made: None,
            assets: assets::names(),
        }
    }

    pub(crate) fn tabs(&self) -> Vec<Tab> {
        let tabs = [
            ("/", "Review"),
            ("/now", "Now"),
            ("/incidents", "Incidents"),
            ("/hosts", "Hosts"),
            ("/nights", "Nights"),
            ("/rules", "Rules"),
            ("/about", "About"),
        ];
        tabs.into_iter()
            .map(|(href, name)| Tab {
                href,
                name,
                here: self.tab == href,
            })
            .collect()
    }

    pub(crate) fn themes(&self) -> Vec<(Theme, String)> {
        let back = super::encoded(&self.back);
        Theme::ALL
            .into_iter()
            .map(|theme| (theme, format!("/theme?to={}&back={back}", theme.word())))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_come_from_the_cookie() {
        for (cookie, want) in [
            ("", Theme::Auto),
            ("dawnwatch-theme=dark", Theme::Dark),
            ("a=b; dawnwatch-theme=light; c=d", Theme::Light),
            ("dawnwatch-theme=<script>", Theme::Auto),
            ("xdawnwatch-theme=dark", Theme::Auto),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::COOKIE, cookie.parse().unwrap());
            assert_eq!(Theme::of(&headers), want, "{cookie}");
        }
    }
}
