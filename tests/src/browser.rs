//! A browser that does what a test says: WebDriver in plain HTTP and JSON, spoken to Debian's chromedriver.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

/// An answer that takes longer is none: pages are small, and axe takes two seconds on the largest.
const WITHIN: Duration = Duration::from_secs(60);

/// A browser with one window.
#[derive(Debug)]
pub struct Browser {
    driver: Child,
    port: u16,
    session: String,
}

/// How a page is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Width of the window in pixels.
    pub width: u32,
    /// Whether the system asks for dark colours.
    pub dark: bool,
    /// Whether scripts run.
    pub script: bool,
}

impl Browser {
    /// Starts chromedriver and a headless browser that keeps all it writes under `profile`.
    ///
    /// # Errors
    /// Where either does not start.
    pub fn start(profile: &Path) -> anyhow::Result<Browser> {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("start chromedriver")?;
        let out = driver.stdout.take().context("chromedriver has an output")?;
        let mut lines = BufReader::new(out).lines();
        let port = loop {
            let line = lines.next().context("chromedriver ended")??;
            if let Some((_, port)) = line.split_once("successfully on port ") {
                break port.trim_end_matches('.').parse().context("a port")?;
            }
        };
        // It goes on writing: somebody must read, or it stops.
        std::thread::spawn(move || lines.for_each(drop));
        let mut browser = Browser {
            driver,
            port,
            session: String::new(),
        };
        let arguments = json!([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--window-size=1280,900",
            format!("--user-data-dir={}", profile.display()),
        ]);
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let made = browser.send("POST", "/session", &wanted)?;
        let session = made["sessionId"].as_str().context("a session id")?;
        browser.session = format!("/session/{session}");
        Ok(browser)
    }

    /// Sets how the pages that are loaded from here on are looked at.
    ///
    /// # Errors
    /// What the browser says.
    pub fn look(&self, look: Look) -> anyhow::Result<()> {
        let metrics =
            json!({"width": look.width, "height": 900, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", &metrics)?;
        let scheme = if look.dark { "dark" } else { "light" };
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.devtools("Emulation.setEmulatedMedia", &media)?;
        self.devtools(
            "Emulation.setScriptExecutionDisabled",
            &json!({"value": !look.script}),
        )?;
        Ok(())
    }

    /// Goes to a page and waits until it is loaded.
    ///
    /// # Errors
    /// What the browser says.
    pub fn go(&self, url: &str) -> anyhow::Result<()> {
        self.post("/url", &json!({ "url": url })).map(drop)
    }

    /// Where it is.
    ///
    /// # Errors
    /// What the browser says.
    pub fn url(&self) -> anyhow::Result<String> {
        let path = format!("{}/url", self.session);
        let url = self.send("GET", &path, &Value::Null)?;
        Ok(url.as_str().unwrap_or_default().to_owned())
    }

    /// What an expression or a promise comes to, by the inspector: whether the page's own scripts run does not matter.
    ///
    /// # Errors
    /// Where it throws.
    pub fn evaluate(&self, expression: &str) -> anyhow::Result<Value> {
        let wanted = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let answer = self.devtools("Runtime.evaluate", &wanted)?;
        ensure!(
            answer.get("exceptionDetails").is_none(),
            "{}",
            answer["exceptionDetails"]
        );
        Ok(answer["result"]["value"].clone())
    }

    /// Clicks the element that a selector finds.
    ///
    /// # Errors
    /// Where there is none, or something lies over it.
    pub fn click(&self, selector: &str) -> anyhow::Result<()> {
        let element = self.element(selector)?;
        self.post(&format!("/element/{element}/click"), &json!({}))
            .map(drop)
    }

    /// Types into the element that a selector finds.
    ///
    /// # Errors
    /// Where there is none.
    pub fn write(&self, selector: &str, text: &str) -> anyhow::Result<()> {
        let element = self.element(selector)?;
        self.post(
            &format!("/element/{element}/value"),
            &json!({ "text": text }),
        )
        .map(drop)
    }

    /// What the console said since it was asked last: errors, violations of the policy, what could not be loaded.
    ///
    /// # Errors
    /// What the browser says.
    pub fn console(&self) -> anyhow::Result<Vec<String>> {
        let entries = self.post("/se/log", &json!({"type": "browser"}))?;
        let entries = entries.as_array().cloned().unwrap_or_default();
        // What has the level DEBUG is advice to whoever writes pages, no fault; and where there is no network, the browser's own
        // first tab complains.
        let is_own = |entry: &Value| {
            let message = entry["message"].as_str();
            message.is_some_and(|message| message.starts_with("chrome://"))
        };
        let told = entries
            .iter()
            .filter(|entry| entry["level"] != "DEBUG" && !is_own(entry));
        let told = told.map(|entry| format!("{} {}", entry["level"], entry["message"]));
        Ok(told.collect())
    }

    /// The whole page as PNG.
    ///
    /// # Errors
    /// What the browser says.
    pub fn picture(&self) -> anyhow::Result<Vec<u8>> {
        let size = &self.devtools("Page.getLayoutMetrics", &json!({}))?["cssContentSize"];
        let clip =
            json!({"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1});
        let wanted = json!({"captureBeyondViewport": true, "clip": clip});
        let answer = self.devtools("Page.captureScreenshot", &wanted)?;
        let text = answer["data"].as_str().context("a picture")?;
        Ok(data_encoding::BASE64.decode(text.as_bytes())?)
    }

    fn element(&self, selector: &str) -> anyhow::Result<String> {
        let found = self.post(
            "/element",
            &json!({"using": "css selector", "value": selector}),
        )?;
        let id = found.as_object().and_then(|found| found.values().next());
        let id = id.and_then(Value::as_str);
        Ok(id
            .with_context(|| format!("no element {selector}"))?
            .to_owned())
    }

    fn devtools(&self, command: &str, parameters: &Value) -> anyhow::Result<Value> {
        self.post(
            "/goog/cdp/execute",
            &json!({"cmd": command, "params": parameters}),
        )
    }

    fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.send("POST", &format!("{}{path}", self.session), body)
    }

    fn send(&self, method: &str, path: &str, body: &Value) -> anyhow::Result<Value> {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(WITHIN))?;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(body.as_bytes())?;
        // It keeps the connection open whatever it is asked: the length says where an answer ends.
        let mut stream = BufReader::new(stream);
        let (mut head, mut length) = (String::new(), 0);
        while !head.ends_with("\r\n\r\n") {
            let from = head.len();
            let read = stream.read_line(&mut head);
            ensure!(
                read.with_context(|| format!("{method} {path}"))? > 0,
                "{method} {path}: cut off"
            );
            let line = head[from..].to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        let value: Value =
            serde_json::from_slice(&body).with_context(|| format!("{path}: {head}"))?;
        ensure!(
            head.starts_with("HTTP/1.1 200"),
            "{method} {path}: {}",
            value["value"]
        );
        Ok(value["value"].clone())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            let _ = self.send("DELETE", &self.session.clone(), &Value::Null);
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
