//! The few pages that are forms: login, set-up, account. One template draws them all.

use askama::Template;
use axum::extract::{FromRequest, Request};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use dawnwatch_proto::untrusted::term;
use serde::de::DeserializeOwned;

use super::page;
use crate::api::{Failure, failure};

/// A page with forms.
#[derive(Debug, Template)]
#[template(path = "form.html")]
pub(super) struct FormPage {
    shell: page::Shell,
    title: &'static str,
    lead: String,
    wrong: String,
    forms: Vec<Form>,
}

/// One form.
#[derive(Debug)]
pub(super) struct Form {
    action: &'static str,
    button: &'static str,
    hidden: Vec<(&'static str, String)>,
    fields: Vec<Field>,
}

#[derive(Debug)]
struct Field {
    name: &'static str,
    label: &'static str,
    kind: &'static str,
    autocomplete: &'static str,
    value: String,
}

impl Form {
    /// A form that posts to `action`, protected by `csrf`.
    pub(super) fn new(action: &'static str, button: &'static str, csrf: &str) -> Form {
        Form {
            action,
            button,
            hidden: vec![("csrf", csrf.to_owned())],
            fields: Vec::new(),
        }
    }

    /// Carries a value along.
    pub(super) fn carry(mut self, name: &'static str, value: &str) -> Form {
        self.hidden.push((name, value.to_owned()));
        self
    }

    /// Asks for a name.
    pub(super) fn name(mut self, label: &'static str, value: &str) -> Form {
        self.fields.push(Field {
            name: "name",
            label,
            kind: "text",
            autocomplete: "username",
            value: term(value),
        });
        self
    }

    /// Asks for a password; `autocomplete` tells a password store which one.
    pub(super) fn password(
        mut self,
        name: &'static str,
        label: &'static str,
        autocomplete: &'static str,
    ) -> Form {
        self.fields.push(Field {
            name,
            label,
            kind: "password",
            autocomplete,
            value: String::new(),
        });
        self
    }
}

impl FormPage {
    /// A page that says what it is for.
    pub(super) fn new(title: &'static str, lead: impl Into<String>) -> FormPage {
        FormPage {
            title,
            shell: page::Shell::bare(title),
            lead: lead.into(),
            wrong: String::new(),
            forms: Vec::new(),
        }
    }

    /// Adds a form.
    pub(super) fn with(mut self, form: Form) -> FormPage {
        self.forms.push(form);
        self
    }

    /// Says what was wrong with what was sent.
    pub(super) fn wrong(mut self, what: impl Into<String>) -> FormPage {
        self.wrong = what.into();
        self
    }

    /// The answer.
    pub(super) fn answer(self, status: StatusCode) -> Response {
        match self.render() {
            Ok(html) => {
                let kind = [(header::CONTENT_TYPE, "text/html; charset=utf-8")];
                (status, kind, html).into_response()
            }
            Err(error) => {
                tracing::error!(%error, "a form cannot be drawn");
                let error = "this page cannot be drawn; see the server's log";
                page::failed(failure(StatusCode::INTERNAL_SERVER_ERROR, error), false)
            }
        }
    }
}

/// What a form sent; what cannot be read is answered with a page.
#[derive(Debug)]
pub(super) struct Sent<T>(pub(super) T);

/// The page for a form that cannot be read.
#[derive(Debug)]
pub(super) struct Unread(Failure);

impl IntoResponse for Unread {
    fn into_response(self) -> Response {
        page::failed(self.0, false)
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Sent<T> {
    type Rejection = Unread;

    async fn from_request(request: Request, state: &S) -> Result<Sent<T>, Unread> {
        let read = axum::Form::from_request(request, state).await;
        read.map(|axum::Form(found)| Sent(found))
            .map_err(|refused| Unread(failure(refused.status(), refused.body_text())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_is_text() {
        let form =
            Form::new("/login", "Log in", "c\"><script>").name("Name", "\"><script>\u{202e}");
        let page = FormPage::new("Log in", "a<b").with(form).wrong("<b>'");
        let html = page.render().unwrap();
        assert!(
            !html.contains("<script>") && !html.contains("<b>"),
            "{html}"
        );
        assert!(!html.contains('\u{202e}'));
    }
}
