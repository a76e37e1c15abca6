//! A headless Chromium, driven through its pipe: JSON messages that end with a zero byte, to its descriptor 3 and from 4.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::rig::DEADLINE;

/// The names that distributions give it.
const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// A browser with one tab, killed where a test ends early.
pub(crate) struct Browser {
    child: Child,
    commands: File,
    answers: Receiver<Value>,
    session: Value,
    id: u64,
    _folder: tempfile::TempDir,
}

impl Browser {
    /// None, with a message, where no Chromium is installed.
    pub(crate) fn start() -> Option<Self> {
        let there = |name: &&&str| {
            let version = Command::new(name).arg("--version").stderr(Stdio::null()).output();
            version.is_ok_and(|version| version.status.success())
        };
        let Some(name) = NAMES.iter().find(there) else {
            println!("skipped: there is no Chromium here (Debian's package is `chromium`)");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let pipe = |name: &str| {
            let path = folder.path().join(name);
            assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
            path
        };
        let (commands, answers) = (pipe("commands"), pipe("answers"));
        let script = format!(
            "exec {name} --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run --hide-scrollbars \
             --disable-background-networking --user-data-dir=\"$1/profile\" --remote-debugging-pipe about:blank \
             3<\"$1/commands\" 4>\"$1/answers\""
        );
        let child = Command::new("sh")
            .args(["-c", &script, "sh"])
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // In the order in which the shell opens them.
        let commands = File::options().write(true).open(commands).unwrap();
        let read = BufReader::new(File::open(answers).unwrap());
        let (messages, answers) = channel();
        thread::spawn(move || {
            for message in read.split(0).map_while(Result::ok) {
                let message = serde_json::from_slice::<Value>(&message).unwrap();
                // The others are events, which nobody waits for.
                if message.get("id").is_some() && messages.send(message).is_err() {
                    return;
                }
            }
        });
        let mut browser = Self { child, commands, answers, session: Value::Null, id: 0, _folder: folder };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        browser.session = browser.call("Target.attachToTarget", attach)["sessionId"].clone();
        Some(browser)
    }

    /// Calls a method of the protocol.
    fn call(&mut self, method: &str, params: Value) -> Value {
        self.id += 1;
        let mut message = json!({ "id": self.id, "method": method, "params": params });
        if self.session.is_string() {
            message["sessionId"] = self.session.clone();
        }
        self.commands.write_all(format!("{message}\0").as_bytes()).unwrap();
        let answer = self.answers.recv_timeout(DEADLINE).unwrap_or_else(|_| panic!("no answer to {method}"));
        assert_eq!(answer["id"], self.id);
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].clone()
    }

    /// Opens a page.
    pub(crate) fn open(&mut self, url: &str) {
        self.call("Page.navigate", json!({ "url": url }));
    }

    /// What a script of the page evaluates to.
    pub(crate) fn evaluate(&mut self, script: &str) -> Value {
        let result = self.call("Runtime.evaluate", json!({ "expression": script, "returnByValue": true }));
        assert!(result.get("exceptionDetails").is_none(), "{script}: {result}");
        result["result"]["value"].clone()
    }

    /// Waits until a script is true, and says how long that took.
    pub(crate) fn until(&mut self, script: &str) -> Duration {
        let begun = Instant::now();
        while self.evaluate(script) != true {
            if begun.elapsed() > DEADLINE {
                let text = self.evaluate("document.body.innerText");
                panic!("{script} does not become true: {text}");
            }
            thread::sleep(Duration::from_millis(50));
        }
        begun.elapsed()
    }

    /// Writes a picture of the whole page, so many pixels wide, and fails where it is wider than that.
    pub(crate) fn screenshot(&mut self, file: &Path, width: u32, scheme: &str) {
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.call("Emulation.setEmulatedMedia", media);
        let size = |height: &Value| json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.call("Emulation.setDeviceMetricsOverride", size(&json!(800)));
        let wide = self.evaluate("document.documentElement.scrollWidth");
        assert_eq!(wide, width, "nothing sticks out at {width} pixels");
        let high = self.evaluate("document.documentElement.scrollHeight");
        self.call("Emulation.setDeviceMetricsOverride", size(&high));
        let picture = self.call("Page.captureScreenshot", json!({ "format": "png" }));
        let picture = base64(picture["data"].as_str().unwrap());
        std::fs::write(file, picture).unwrap();
    }
}

/// The bytes of a text in base64.
fn base64(text: &str) -> Vec<u8> {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    BASE64_STANDARD.decode(text).unwrap()
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
