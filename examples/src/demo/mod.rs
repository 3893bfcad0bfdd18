//! `blink demo`: a whole call between two processes on this machine, and a report of how it went.
//!
//! The demo starts its own program twice, as `blink answer` and as `blink call`, with a recording as each one's
//! microphone and a file as each one's speaker. It follows their JSON lines, and compares the files when the call is
//! over. Nothing in it knows more of the call than any script could.

mod child;
pub mod compare;
mod picture;
mod progress;
pub mod record;
mod report;
pub mod result;
pub mod sound;
#[cfg(test)]
mod synthetic;

use std::{
    ffi::OsString,
    fs,
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tokio::{sync::mpsc, time};

use self::{
    child::{Files, Phone, Said},
    record::{Line, Record},
    result::{CALLEE, CALLER, Outcome, Side, Sounds},
};
use crate::cli::{args::DemoArguments, failure::Exit};

/// What the two are called.
const NAMES: [&str; 2] = ["Alice", "Bob"];
/// What they say: see `assets/README.md`.
const SPEECH: [&[u8]; 2] =
    [include_bytes!("../../assets/speech-a.wav"), include_bytes!("../../assets/speech-b.wav")];
/// How long they talk: the recordings last 9.4 s, and the last word needs a moment to arrive.
const SECONDS: Duration = Duration::from_millis(10_000);
/// How long the callee lets it ring: long enough to see that the connection is made meanwhile, short enough to wait for.
const ANSWER_DELAY: &str = "1";
/// How long a node may need to start on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long the call may take beyond the time for talking: reaching, ringing and connecting, each with its own limit.
const CALL_LIMIT: Duration = Duration::from_secs(60);
/// How long a process that was asked to hang up may still say goodbye.
const FAREWELL: Duration = Duration::from_secs(3);

/// Why there is no report that tells more.
struct Trouble {
    exit: Exit,
    message: String,
}

impl Trouble {
    fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }
}

/// Runs the demo. It ends well only if there was a call in which each side heard the other.
pub fn run(arguments: &DemoArguments) -> ExitCode {
    let result = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Trouble::new(Exit::Other, format!("the system gave no event queue: {e}")))
        .and_then(|runtime| runtime.block_on(demo(&arguments.out, arguments.seconds.unwrap_or(SECONDS))));
    match result {
        Ok(exit) => exit.into(),
        Err(Trouble { exit, message }) => {
            eprintln!("blink: {message}");
            exit.into()
        }
    }
}

async fn demo(folder: &Path, seconds: Duration) -> Result<Exit, Trouble> {
    let mut stage = Stage::set(folder)?;
    let ending = {
        let call = time::timeout(START_LIMIT + CALL_LIMIT + seconds, stage.call(seconds));
        tokio::select! {
            result = call => match result {
                Ok(result) => result,
                Err(_) => Err("the call did not come to an end".to_owned()),
            },
            signal = interrupted() => {
                signal.map_err(|e| Trouble::new(Exit::Other, format!("cannot wait for Ctrl-C: {e}")))?;
                stage.farewell().await;
                return Err(Trouble::new(Exit::Other, "interrupted; both processes have ended"));
            }
        }
    };
    stage.farewell().await;
    stage.report(ending)
}

/// Ends at Ctrl-C or when the system asks for the end.
async fn interrupted() -> io::Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminated = signal(SignalKind::terminate())?;
        tokio::select! {
            result = tokio::signal::ctrl_c() => result,
            _ = terminated.recv() => Ok(()),
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await
}

/// Everything that the demo handles.
struct Stage {
    folder: PathBuf,
    began: Instant,
    phones: [Option<Phone>; 2],
    records: [Record; 2],
    closed: [bool; 2],
    sender: mpsc::Sender<Said>,
    said: mpsc::Receiver<Said>,
}

impl Stage {
    /// Prepares the folder: the recordings are in it, and nothing of an earlier demo.
    fn set(folder: &Path) -> Result<Self, Trouble> {
        let fail = |path: &Path, e: io::Error| {
            Trouble::new(
                Exit::Usage,
                format!("cannot write {}: {e}; choose another folder with --out", path.display()),
            )
        };
        fs::create_dir_all(folder).map_err(|e| fail(folder, e))?;
        // Relative paths stay short in the children's arguments, but they must not look like options.
        let folder = if folder.is_absolute() { folder.to_owned() } else { Path::new(".").join(folder) };
        let (sender, said) = mpsc::channel(256);
        let stage = Self {
            folder,
            began: Instant::now(),
            phones: [None, None],
            records: [Record::default(), Record::default()],
            closed: [false, false],
            sender,
            said,
        };
        for side in [CALLER, CALLEE] {
            let files = stage.files(side);
            for stale in [stage.page(), stage.heard(side), files.events, files.log] {
                match fs::remove_file(&stale) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(fail(&stale, e)),
                    _ => {}
                }
            }
            fs::write(stage.mouth(side), SPEECH[side]).map_err(|e| fail(&stage.mouth(side), e))?;
        }
        Ok(stage)
    }

    fn page(&self) -> PathBuf {
        self.folder.join("report.html")
    }

    fn mouth(&self, side: usize) -> PathBuf {
        self.folder.join(format!("{}-said.wav", NAMES[side].to_lowercase()))
    }

    fn heard(&self, side: usize) -> PathBuf {
        self.folder.join(format!("{}-heard.wav", NAMES[side].to_lowercase()))
    }

    fn files(&self, side: usize) -> Files {
        Files::of(&self.folder, NAMES[side])
    }

    /// Starts one side.
    fn start(&mut self, side: usize, arguments: Vec<OsString>) -> Result<(), String> {
        let mut all = arguments;
        for word in
            ["--json", "--control", "--listen", "/ip4/127.0.0.1/tcp/0", "--ice-ip", "127.0.0.1", "--mic"]
        {
            all.push(word.into());
        }
        all.extend([self.mouth(side).into(), "--speaker".into(), self.heard(side).into()]);
        self.phones[side] = Some(Phone::start(all, &self.files(side), side, self.sender.clone())?);
        Ok(())
    }

    /// The whole call. An error is what went wrong, as a sentence.
    async fn call(&mut self, seconds: Duration) -> Result<(), String> {
        println!(
            "A call between two nodes on this machine: two processes, encrypted gossip, WebRTC, real speech.\n"
        );
        self.start(CALLEE, ["answer", "--once", "--answer-delay", ANSWER_DELAY].map(OsString::from).into())?;
        let ready =
            time::timeout(START_LIMIT, self.until(|side, line| side == CALLEE && line.event == "ready"));
        let ready = ready.await.map_err(|_| format!("{}'s node did not start in time", NAMES[CALLEE]))??;
        let key = ready.text("did").to_owned();
        let address = ready.body["addresses"].get(0).and_then(|a| a.as_str()).unwrap_or_default().to_owned();
        if key.is_empty() || address.is_empty() {
            return Err(format!("{}'s node has no key or no address", NAMES[CALLEE]));
        }
        let seconds = format!("{:.3}", seconds.as_secs_f64());
        let call = ["call", &key, "--peer", &address, "--duration", &seconds];
        self.start(CALLER, call.map(OsString::from).into())?;
        while self.closed != [true, true] && !self.broken() {
            self.next().await?;
        }
        Ok(())
    }

    /// Takes what comes next from either side. `None`: that one has nothing more to say.
    async fn next(&mut self) -> Result<Option<(usize, Line)>, String> {
        // The sender that is kept here keeps the channel open.
        match self.said.recv().await {
            None => Err("nothing comes from the two processes".to_owned()),
            Some(Said::Closed(side)) => {
                self.closed[side] = true;
                Ok(None)
            }
            Some(Said::Line(side, line)) => {
                self.show(side, &line);
                self.records[side].push(line.clone());
                Ok(Some((side, line)))
            }
        }
    }

    /// Waits for a line.
    async fn until(&mut self, wanted: impl Fn(usize, &Line) -> bool) -> Result<Line, String> {
        while !self.broken() {
            if let Some((side, line)) = self.next().await?
                && wanted(side, &line)
            {
                return Ok(line);
            }
        }
        Err("there was no call".to_owned())
    }

    /// Nothing more comes of it: a process is gone without the end of its call, or the callee waits for a call that
    /// does not come any more.
    fn broken(&self) -> bool {
        let has = |side: usize, event| self.records[side].first(event).is_some();
        let died = |side: usize| self.closed[side] && !has(side, "ended");
        died(CALLER) || died(CALLEE) || self.closed[CALLER] && !has(CALLEE, "incoming")
    }

    /// Why a process did not end well: the reason that its call had, or the last thing that it complained of.
    fn reason(&self, side: usize) -> String {
        let name = NAMES[side];
        if let Some(ended) = self.records[side].first("ended") {
            return format!("{name}'s call ended: {}", ended.text("reason").replace('_', " "));
        }
        let log = fs::read_to_string(self.files(side).log).unwrap_or_default();
        match log.lines().rev().find(|line| !line.trim().is_empty()) {
            Some(last) => format!("{name}'s process ended too early: {last}"),
            None => format!("{name}'s process ended too early"),
        }
    }

    fn show(&self, side: usize, line: &Line) {
        let told = match line.event.as_str() {
            "stats" => Some(progress::numbers(line)),
            _ => progress::sentence(line, NAMES[1 - side]),
        };
        if let Some(told) = told {
            let mut out = io::stdout().lock();
            let at = self.began.elapsed().as_secs_f64();
            // A closed terminal is no reason to break off.
            let _ = writeln!(out, "  {at:7.3} s  {:5}  {told}", NAMES[side]);
            let _ = out.flush();
        }
    }

    /// Ends what still runs: first by asking, then for good.
    async fn farewell(&mut self) {
        self.phones.iter_mut().flatten().for_each(Phone::hang_up);
        let limit = time::Instant::now() + FAREWELL;
        let mut pause = time::interval(Duration::from_millis(20));
        while time::Instant::now() < limit && self.phones.iter_mut().flatten().any(|p| p.ended().is_none()) {
            pause.tick().await;
            // Nobody is kept from ending by a full pipe.
            while let Ok(said) = self.said.try_recv() {
                if let Said::Line(side, line) = said {
                    self.records[side].push(line);
                }
            }
        }
    }

    /// Writes the report.
    fn report(mut self, ending: Result<(), String>) -> Result<Exit, Trouble> {
        let mut problems: Vec<String> = ending.err().into_iter().collect();
        for side in [CALLER, CALLEE] {
            let status = self.phones[side].as_mut().and_then(Phone::ended);
            if let Some(code) = status.filter(|s| !s.success()) {
                problems.push(format!("{} ({code})", self.reason(side)));
            }
        }
        // Ends those that are left, so that their files are closed.
        self.phones = [None, None];
        let talked = |side: usize| self.records[side].first("media_started").is_some();
        let sounds = (talked(CALLER) && talked(CALLEE)).then(|| {
            [(CALLER, CALLEE), (CALLEE, CALLER)]
                .map(|(from, to)| Sounds { said: self.mouth(from), heard: self.heard(to) })
        });
        if sounds.is_none() {
            problems.push("the two were never connected, so nothing was heard".to_owned());
        }
        let sides =
            [CALLER, CALLEE].map(|s| Side { name: NAMES[s], record: std::mem::take(&mut self.records[s]) });
        println!("\nComparing what was heard with what was said ...");
        let outcome =
            Outcome::new(sides, problems, sounds).map_err(|e| Trouble::new(Exit::Failed, e.to_string()))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let page = report::page(&outcome, now).map_err(|e| Trouble::new(Exit::Other, e))?;
        let path = self.page();
        fs::write(&path, page)
            .map_err(|e| Trouble::new(Exit::Other, format!("cannot write {}: {e}", path.display())))?;
        let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        print!("{}", report::terminal(&outcome, colour));
        println!("\nThe whole report, with the sound to listen to: {}", path.display());
        if outcome.worked() {
            return Ok(Exit::Done);
        }
        for side in [CALLER, CALLEE] {
            let Files { events, log } = self.files(side);
            println!("What {}'s process said: {} and {}", NAMES[side], events.display(), log.display());
        }
        Ok(Exit::Failed)
    }
}
