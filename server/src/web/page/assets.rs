//! Style, script and icon: part of the binary, under names that carry their content's hash, so that a browser keeps them
//! for ever and an upgrade is seen at once.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

/// Where assets are, as pages name them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Assets {
    pub(crate) style: String,
    pub(crate) script: String,
    pub(crate) icon: String,
    pub(crate) uplot: String,
    pub(crate) uplot_style: String,
}

/// One file of the binary.
struct Asset {
    name: String,
    kind: &'static str,
    bytes: &'static [u8],
}

static FILES: LazyLock<[Asset; 5]> = LazyLock::new(|| {
    let css = "text/css; charset=utf-8";
    let js = "text/javascript; charset=utf-8";
    [
        asset(
            "page",
            "css",
            css,
            include_bytes!("../../../assets/page.css"),
        ),
        asset("page", "js", js, include_bytes!("../../../assets/page.js")),
        asset(
            "icon",
            "svg",
            "image/svg+xml",
            include_bytes!("../../../assets/icon.svg"),
        ),
        asset(
            "uplot",
            "js",
            js,
            include_bytes!("../../../assets/vendor/uplot/uPlot.iife.min.js"),
        ),
        asset(
            "uplot",
            "css",
            css,
            include_bytes!("../../../assets/vendor/uplot/uPlot.min.css"),
        ),
    ]
});

static NAMES: LazyLock<Assets> = LazyLock::new(|| {
    let [style, script, icon, uplot, uplot_style] = &*FILES;
    let path = |asset: &Asset| format!("/assets/{}", asset.name);
    Assets {
        style: path(style),
        script: path(script),
        icon: path(icon),
        uplot: path(uplot),
        uplot_style: path(uplot_style),
    }
});

fn asset(stem: &str, ending: &str, kind: &'static str, bytes: &'static [u8]) -> Asset {
    let hash = ring::digest::digest(&ring::digest::SHA256, bytes);
    let hash = data_encoding::HEXLOWER.encode(&hash.as_ref()[..8]);
    Asset {
        name: format!("{stem}-{hash}.{ending}"),
        kind,
        bytes,
    }
}

/// Where each of them is.
pub(crate) fn names() -> &'static Assets {
    &NAMES
}

/// `GET /assets/{file}`.
pub(crate) async fn asset_file(Path(name): Path<String>) -> Response {
    let Some(asset) = FILES.iter().find(|asset| asset.name == name) else {
        return (
            StatusCode::NOT_FOUND,
            "there is no such file; reload the page",
        )
            .into_response();
    };
    let headers = [
        (header::CONTENT_TYPE, asset.kind),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, asset.bytes).into_response()
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_was_vendored_is_what_was_vendored() {
        let sums = include_str!("../../../assets/vendor/SHA256SUMS");
        for (file, bytes) in [
            (
                "uplot/uPlot.iife.min.js",
                &include_bytes!("../../../assets/vendor/uplot/uPlot.iife.min.js")[..],
            ),
            (
                "uplot/uPlot.min.css",
                &include_bytes!("../../../assets/vendor/uplot/uPlot.min.css")[..],
            ),
            (
                "uplot/LICENSE",
                &include_bytes!("../../../assets/vendor/uplot/LICENSE")[..],
            ),
        ] {
            let hash = ring::digest::digest(&ring::digest::SHA256, bytes);
            let line = format!("{}  {file}", data_encoding::HEXLOWER.encode(hash.as_ref()));
            assert!(sums.lines().any(|known| known == line), "{line}");
        }
    }

    #[test]
    fn own_style_and_script_stay_small_and_free_of_what_the_policy_forbids() {
        let (style, script) = (
            include_str!("../../../assets/page.css"),
            include_str!("../../../assets/page.js"),
        );
        assert!(
            style.len() < 20_000 && script.len() < 20_000,
            "{} {}",
            style.len(),
            script.len()
        );
        for forbidden in ["http://", "https://", "@import", "url("] {
            assert!(!style.contains(forbidden), "style: {forbidden}");
        }
        for forbidden in [
            "eval(",
            "innerHTML",
            "setAttribute(\"style",
            "document.write",
        ] {
            assert!(!script.contains(forbidden), "script: {forbidden}");
        }
    }
}
