//! Who may do what: one table of routes x roles, for the API and the pages alike. A request whose route stands in no row is
//! refused, whoever asks; `tests` walks every row with every role, and looks for routes that have none.

use axum::http::Method;
use dawnwatch_proto::api::Role;

/// What a route asks of who comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Nothing: the login itself, and what a browser needs to draw it.
    Open,
    /// A login with this role or a stronger one.
    Needs(Role),
    /// Somebody who may open the Unix socket: root, or the server's own user.
    Root,
}

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The method; `HEAD` goes with `GET`.
    pub method: &'static str,
    /// The path as it stands in the router.
    pub path: &'static str,
    /// What it asks.
    pub access: Access,
}

const VIEWER: Access = Access::Needs(Role::Viewer);
const OPERATOR: Access = Access::Needs(Role::Operator);
const ADMIN: Access = Access::Needs(Role::Admin);

const fn get(path: &'static str, access: Access) -> Route {
    Route {
        method: "GET",
        path,
        access,
    }
}

const fn post(path: &'static str, access: Access) -> Route {
    Route {
        method: "POST",
        path,
        access,
    }
}

/// The table.
pub const ROUTES: &[Route] = &[
    // The JSON API.
    get("/api/v1/now", VIEWER),
    get("/api/v1/hosts", VIEWER),
    get("/api/v1/hosts/missing", VIEWER),
    post("/api/v1/hosts/import", ADMIN),
    post("/api/v1/hosts/{name}/label", OPERATOR),
    post("/api/v1/hosts/{name}/rename", OPERATOR),
    post("/api/v1/hosts/{name}/retire", ADMIN),
    post("/api/v1/hosts/{name}/erase", ADMIN),
    post("/api/v1/hosts/{name}/merge", ADMIN),
    post("/api/v1/hosts/{name}/forget", ADMIN),
    get("/api/v1/series", VIEWER),
    get("/api/v1/history", VIEWER),
    get("/api/v1/fleet", VIEWER),
    get("/api/v1/incidents", VIEWER),
    get("/api/v1/incidents/{id}", VIEWER),
    post("/api/v1/incidents/{id}/ack", OPERATOR),
    get("/api/v1/search", VIEWER),
    get("/api/v1/review", VIEWER),
    get("/api/v1/nights", VIEWER),
    get("/api/v1/nights/{id}/evidence", VIEWER),
    get("/api/v1/rules", VIEWER),
    get("/api/v1/net", VIEWER),
    get("/api/v1/logs", VIEWER),
    get("/api/v1/templates", VIEWER),
    get("/api/v1/tokens", ADMIN),
    post("/api/v1/tokens", ADMIN),
    get("/api/v1/me", VIEWER),
    get("/api/v1/people", ADMIN),
    post("/api/v1/people", Access::Root),
    post("/api/v1/people/{name}/reset", Access::Root),
    post("/api/v1/people/{name}/role", Access::Root),
    post("/api/v1/people/{name}/remove", Access::Root),
    post("/api/v1/people/{name}/token", Access::Root),
    post("/api/v1/admin-link", Access::Root),
    // The server itself: whether it is up is no secret, its numbers are.
    get("/healthz", Access::Open),
    get("/readyz", Access::Open),
    get("/metrics", VIEWER),
    // Logging in and out.
    get("/login", Access::Open),
    post("/login", Access::Open),
    get("/setup", Access::Open),
    post("/setup", Access::Open),
    post("/logout", VIEWER),
    get("/account", VIEWER),
    post("/account", VIEWER),
    post("/account/leave", VIEWER),
    // The pages.
    get("/", VIEWER),
    get("/now", VIEWER),
    get("/now/strip", VIEWER),
    get("/nights", VIEWER),
    get("/nights/{id}", VIEWER),
    get("/incidents", VIEWER),
    get("/incidents/{id}", VIEWER),
    post("/incidents/{id}/ack", OPERATOR),
    get("/hosts", VIEWER),
    get("/hosts/{name}", VIEWER),
    get("/rules", VIEWER),
    get("/about", VIEWER),
    get("/theme", Access::Open),
    get("/assets/{file}", Access::Open),
];

/// What a route asks; none where it stands in no row.
#[must_use]
pub fn of(method: &Method, path: &str) -> Option<Access> {
    let method = if method == Method::HEAD {
        "GET"
    } else {
        method.as_str()
    };
    ROUTES
        .iter()
        .find(|route| route.method == method && route.path == path)
        .map(|route| route.access)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sources in which routers are put together.
    fn sources() -> Vec<(String, String)> {
        let src = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
        let mut dirs = vec![format!("{src}/api"), format!("{src}/web")];
        let mut out = Vec::new();
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(&dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    dirs.push(path.display().to_string());
                } else if path.extension().is_some_and(|end| end == "rs") {
                    let text = std::fs::read_to_string(&path).unwrap();
                    // Tests make routers of their own.
                    let text = text.split("#[cfg(test)]").next().unwrap_or("").to_owned();
                    out.push((path.display().to_string(), text));
                }
            }
        }
        out
    }

    #[test]
    fn every_route_of_the_routers_has_a_row_and_every_row_a_route() {
        let mut found: Vec<String> = Vec::new();
        for (file, text) in sources() {
            for after in text.split(".route(").skip(1) {
                let literal = after.trim_start().strip_prefix('"');
                let path = literal.and_then(|rest| rest.split('"').next());
                let path = path.unwrap_or_else(|| panic!("{file}: a route without a literal path"));
                assert!(
                    ROUTES.iter().any(|route| route.path == path),
                    "{file}: {path} stands in no row of web::access::ROUTES"
                );
                found.push(path.to_owned());
            }
        }
        for route in ROUTES {
            assert!(
                found.iter().any(|path| path == route.path),
                "{} is a row without a route",
                route.path
            );
        }
        let mut rows: Vec<_> = ROUTES.iter().map(|row| (row.path, row.method)).collect();
        rows.sort_unstable();
        rows.dedup();
        assert_eq!(rows.len(), ROUTES.len(), "one row a route");
    }

    #[test]
    fn what_stands_in_no_row_has_no_access() {
        assert_eq!(of(&Method::GET, "/api/v1/now"), Some(VIEWER));
        assert_eq!(of(&Method::HEAD, "/api/v1/now"), Some(VIEWER));
        assert_eq!(of(&Method::DELETE, "/api/v1/now"), None);
        assert_eq!(of(&Method::GET, "/api/v1/nowhere"), None);
    }
}
