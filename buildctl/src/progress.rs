//! Progress: what a build is doing, on standard error.
//!
//! Status messages become a list of vertices ([`vertices`]); a renderer shows what changed: `plain` line by line, `tty` redrawn in place, `rawjson` as
//! it comes, `quiet` not at all.

mod parts;
mod plain;
mod rawjson;
mod tty;
mod vertices;

use std::{io::IsTerminal as _, time::Duration};

use buildd_api::buildkit::moby::buildkit::v1::StatusResponse;
use tokio::sync::mpsc;

pub(crate) use parts::Parts;
use vertices::{Change, Vertices};

/// How often a terminal is redrawn.
const TICK: Duration = Duration::from_millis(100);

/// How to show progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// `tty` on a terminal, else `plain`.
    Auto,
    /// Line by line.
    Plain,
    /// Redrawn in place.
    Tty,
    /// One JSON object a line, as BuildKit's clients write them.
    RawJson,
    /// Nothing.
    Quiet,
}

impl Mode {
    /// Parses `--progress`; nerdctl sends it empty.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "" | "auto" => Ok(Self::Auto),
            "plain" => Ok(Self::Plain),
            "tty" => Ok(Self::Tty),
            "rawjson" => Ok(Self::RawJson),
            "quiet" | "none" => Ok(Self::Quiet),
            _ => Err("takes auto, plain, tty, rawjson or quiet".to_owned()),
        }
    }
}

/// How the build ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Well.
    Done,
    /// With an error, which the caller prints.
    Failed,
}

/// What was shown so far.
#[derive(Debug)]
pub(crate) struct Display {
    vertices: Vertices,
    renderer: Renderer,
    warnings: Vec<String>,
}

#[derive(Debug)]
enum Renderer {
    Plain(plain::Plain),
    Tty(tty::Tty),
    RawJson,
    Quiet,
}

impl Display {
    fn new(mode: Mode) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let renderer = match mode {
            Mode::Auto if terminal => Renderer::Tty(tty::Tty::new()),
            Mode::Tty => Renderer::Tty(tty::Tty::new()),
            Mode::Auto | Mode::Plain => Renderer::Plain(plain::Plain::default()),
            Mode::RawJson => Renderer::RawJson,
            Mode::Quiet => Renderer::Quiet,
        };
        Self { vertices: Vertices::default(), renderer, warnings: Vec::new() }
    }

    fn update(&mut self, status: &StatusResponse) {
        let changes = self.vertices.update(status);
        for change in &changes {
            if let Change::Warning(text) = change {
                self.warnings.push(text.clone());
            }
        }
        match &mut self.renderer {
            Renderer::Plain(plain) => plain.show(&self.vertices, &changes),
            Renderer::RawJson => rawjson::show(status),
            Renderer::Tty(_) | Renderer::Quiet => {}
        }
    }

    fn tick(&mut self) {
        if let Renderer::Tty(tty) = &mut self.renderer {
            tty.draw(&self.vertices);
        }
    }

    /// Draws the last state and what a failure needs; warnings come last, where they are seen.
    pub(crate) fn finish(mut self, outcome: Outcome) {
        match &mut self.renderer {
            Renderer::Tty(tty) => tty.finish(&self.vertices, outcome),
            // What failed may be far above, or was not shown at all.
            Renderer::Plain(_) | Renderer::Quiet if outcome == Outcome::Failed => {
                tty::failed_logs(self.vertices.all()).iter().for_each(|line| crate::output::note(line));
            }
            Renderer::Plain(_) | Renderer::Quiet | Renderer::RawJson => {}
        }
        if matches!(self.renderer, Renderer::RawJson | Renderer::Quiet) {
            return;
        }
        for text in &self.warnings {
            crate::output::note(&format!("warning: {}", tty::clean(text)));
        }
    }
}

/// Shows updates until their sender is gone.
pub(crate) async fn display(mode: Mode, mut updates: mpsc::Receiver<StatusResponse>) -> Display {
    let mut display = Display::new(mode);
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            update = updates.recv() => match update {
                Some(update) => display.update(&update),
                None => return display,
            },
            _ = ticks.tick() => display.tick(),
        }
    }
}
