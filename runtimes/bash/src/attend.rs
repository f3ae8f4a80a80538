//! One event from its hand-over to its answer: what the handler prints, reports and leaves, and the
//! clock.

use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use lambfold_runtime_client::{Client, Error, FunctionError, Invocation, Linger, ResponseStream};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;

use crate::failure;
use crate::lane::{Context, Reports, Shell, command, does_anybody_wait};
use crate::output::{Late, Pipe};
use crate::process::{LOOK_AGAIN_AFTER, Process};
use crate::report::{Failure, Message, Report};

/// The largest answer that Lambda takes, in bytes. One byte more is kept, so that the platform
/// itself says that it is too much; the rest is thrown away.
const MAX_ANSWER_BYTES: usize = 6_291_556;
/// How long a handler's output is left alone at first: most events are over by then, and have woken
/// nobody in between.
const PATIENCE: Duration = Duration::from_millis(1);
const MIN_MARGIN: Duration = Duration::from_millis(100);
const MAX_MARGIN: Duration = Duration::from_millis(500);

/// What runs the handler.
pub(crate) enum Runner<'a> {
    /// A shell that stays, and reports when the event is over.
    Shell {
        commands: &'a Pipe,
        context: &'a Context,
        /// The one that makes the subshell of the event.
        shell: &'a mut Shell,
        /// The subshell that ended the last event.
        ended_slot: &'a mut u64,
        /// If it is the shell itself that runs the handler.
        persist: Option<&'a mut Linger>,
    },
    /// A process whose end is the event's.
    Script,
}

/// Everything about the event that is under way.
pub(crate) struct Attendance<'a> {
    pub(crate) event: &'a Invocation,
    pub(crate) number: u64,
    /// What messages call the handler.
    pub(crate) handler: &'a str,
    pub(crate) compat: bool,
    pub(crate) runner: Runner<'a>,
    pub(crate) process: &'a mut Process,
    pub(crate) reports: &'a mut Reports,
    pub(crate) output: &'a Pipe,
    pub(crate) late: &'a mut Late,
    /// What output passes through.
    pub(crate) buffer: &'a mut [u8],
    pub(crate) stop: Stop,
}

/// When a handler that takes too long is told to stop, and when it is made to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stop {
    ask_at: Option<Instant>,
    kill_at: Option<Instant>,
    asked: bool,
    killed: bool,
    margin: Duration,
}

impl Stop {
    /// `before`: how long before the deadline; zero for never. Without it, a tenth of the time, from
    /// 0.1 to 0.5 s, but no more than half of it. Half of that is for the handler's own end, half
    /// for the answer.
    pub(crate) fn new(now: Instant, remaining: Duration, before: Option<Duration>) -> Stop {
        let margin = before.unwrap_or_else(|| {
            let tenth = (remaining / 10).clamp(MIN_MARGIN, MAX_MARGIN);
            tenth.min(remaining / 2)
        });
        let at = |margin: Duration| match before {
            Some(Duration::ZERO) => None,
            _ => now.checked_add(remaining.saturating_sub(margin)),
        };
        Stop { ask_at: at(margin), kill_at: at(margin / 2), asked: false, killed: false, margin }
    }

    fn next(&self) -> Option<Instant> {
        match (self.asked, self.killed) {
            (false, _) => self.ask_at,
            (true, false) => self.kill_at,
            (true, true) => None,
        }
    }

    /// The signal that is due.
    fn due(&mut self, now: Instant) -> Option<Signal> {
        if self.next().is_none_or(|at| at > now) {
            return None;
        }
        if !self.asked {
            self.asked = true;
            return Some(Signal::TERM);
        }
        self.killed = true;
        Some(Signal::KILL)
    }
}

#[derive(Default)]
struct Progress<'c> {
    /// Set when the event is over.
    end: Option<Failure>,
    /// What the shell said before it ended.
    detail: Option<Failure>,
    /// A subshell that is gone, and may or may not have had the event.
    unsure: Option<(u64, Failure)>,
    /// The first `lambda_error`.
    error: Option<FunctionError>,
    answer: Vec<u8>,
    stream: Option<ResponseStream<'c>>,
    /// Whether the caller still takes what is streamed.
    stream_is_broken: bool,
}

impl Attendance<'_> {
    /// Waits for the end of the event and answers it. An error ends the runtime.
    pub(crate) fn attend(mut self, client: &mut Client) -> Result<(), AttendError> {
        let request_id = self.event.request_id();
        let mut progress = Progress::default();
        // Lent to the stream, if one begins.
        let mut client = Some(client);
        // An event that is over soon is not looked at in between.
        let patient_until = Instant::now() + PATIENCE;
        let mut woken = if self.linger() { Woken::default() } else { self.wait(PATIENCE)? };
        loop {
            // Before the reports: what a process has said before its end is then there.
            let status = if woken.has_ended { self.status() } else { None };
            self.reports.wake();
            while let Some(report) = self.reports.next()? {
                if let Some(content_type) = self.take_report(report, &mut progress)?
                    && let Some(client) = client.take()
                {
                    progress.stream = Some(client.stream(request_id, &content_type)?);
                    let early = std::mem::take(&mut progress.answer);
                    progress.write(&early);
                }
            }
            if let (None, Some(status)) = (&progress.end, status) {
                progress.end = Some(Failure { status, ..Failure::default() });
            }
            // Whatever the handler printed was printed before it ended.
            let is_over = progress.end.is_some();
            self.take_output(&mut progress, is_over)?;
            if is_over {
                break;
            }
            if let Some(signal) = self.stop.due(Instant::now()) {
                self.signal(signal);
            }
            let patience = match progress.stream {
                Some(_) => Duration::ZERO,
                None => patient_until.saturating_duration_since(Instant::now()),
            };
            woken = self.wait(patience)?;
            self.late.forward(self.buffer);
        }
        self.leave();
        let failure = self.failure(&mut progress);
        let posted = match (progress.stream, client, failure) {
            (Some(stream), _, None) => stream.finish(),
            (Some(stream), _, Some(error)) => stream.fail(&error),
            (None, Some(client), Some(error)) => client.error(request_id, &error),
            (None, Some(client), None) => {
                let answer = match (self.compat, progress.answer.as_slice()) {
                    (true, mut answer) => {
                        while let [rest @ .., b'\n'] = answer {
                            answer = rest;
                        }
                        answer
                    }
                    // Nothing, in JSON.
                    (false, []) => b"null",
                    (false, answer) => answer,
                };
                client.respond(request_id, "application/json", answer)
            }
            (None, None, _) => Ok(()),
        };
        match posted {
            Err(error) if error.is_about_this_event() => {
                crate::worker::log(&error);
                Ok(())
            }
            posted => Ok(posted?),
        }
    }

    /// How what runs the handler has ended, if it has. A lane without its shell is no lane: then all
    /// of the process ends.
    fn status(&mut self) -> Option<i32> {
        if let Runner::Shell { shell, .. } = &self.runner
            && shell.is_gone()
        {
            self.process.signal(Signal::KILL);
        }
        self.process.status()
    }

    /// Signals the handler and all that it started.
    fn signal(&mut self, signal: Signal) {
        match &self.runner {
            Runner::Shell { persist: None, shell, .. } => {
                if let Some(shell) = shell.pid {
                    self.process.signal_below(shell, signal);
                }
            }
            Runner::Shell { .. } | Runner::Script => self.process.signal(signal),
        }
    }

    /// Takes in a report; gives the content type if it begins a stream.
    fn take_report(
        &mut self,
        report: Report,
        progress: &mut Progress<'_>,
    ) -> io::Result<Option<String>> {
        let of_this_event = report.event == self.number;
        match (report.message, &mut self.runner) {
            (Message::Gone(status), Runner::Shell { commands, ended_slot, .. }) => {
                if report.slot <= **ended_slot || progress.end.is_some() {
                    return Ok(None);
                }
                let end = Failure { status, ..Failure::default() };
                if progress.detail.is_some() {
                    **ended_slot = report.slot;
                    progress.end = Some(end);
                } else {
                    // It died without a word, and may have had the event, or have taken it along,
                    // or have waited still.
                    say(commands, does_anybody_wait(self.number))?;
                    progress.unsure = Some((report.slot, end));
                }
            }
            (Message::Waiting(asked_in), Runner::Shell { commands, context, ended_slot, .. })
                if asked_in == self.number =>
            {
                // Another one waits, so nobody else has the event.
                if let Some((slot, end)) = progress.unsure.take_if(|(slot, _)| *slot < report.slot)
                {
                    if context.has_begun()? {
                        **ended_slot = slot;
                        progress.end.get_or_insert(end);
                    } else {
                        context.rewind()?;
                        say(commands, command(self.number))?;
                    }
                }
            }
            (Message::Lane(pid), Runner::Shell { shell, .. }) if report.slot == 0 => {
                **shell = Shell::new(pid);
            }
            (Message::End(end), Runner::Shell { ended_slot, .. }) if of_this_event => {
                **ended_slot = report.slot;
                progress.end = Some(end);
            }
            (Message::Detail(detail), _) if of_this_event => progress.detail = Some(detail),
            (Message::Fail { error_type, message, stack }, _) if of_this_event => {
                let error = FunctionError::new(error_type, message).with_stack(stack);
                progress.error.get_or_insert(error);
            }
            (Message::Stream(content_type), _) if of_this_event => return Ok(Some(content_type)),
            _ => {}
        }
        Ok(None)
    }

    fn take_output(&mut self, progress: &mut Progress<'_>, to_the_end: bool) -> io::Result<()> {
        loop {
            match self.output.read(self.buffer)? {
                Some(size) if size > 0 => {
                    progress.write(&self.buffer[..size]);
                    if !to_the_end || size < self.buffer.len() {
                        return Ok(());
                    }
                }
                _ => return Ok(()),
            }
        }
    }

    /// Stays awake if the event may be over in a moment; gives whether there is a report.
    fn linger(&mut self) -> bool {
        let Runner::Shell { persist: Some(linger), .. } = &mut self.runner else { return false };
        let reports = self.reports.pipe.reader();
        let mut reports = [PollFd::new(&reports, PollFlags::IN)];
        let now = Timespec::default();
        let begun = Instant::now();
        linger.look(|| poll(&mut reports, Some(&now)) == Ok(1), || begun.elapsed())
    }

    /// The event is over.
    fn leave(&mut self) {
        if let Runner::Shell { persist: Some(linger), .. } = &mut self.runner {
            linger.end(Instant::now());
        }
    }

    /// `patience`: how long output may wait in its pipe.
    fn wait(&self, patience: Duration) -> io::Result<Woken> {
        let until = self.stop.next();
        let limit = until.map(|at| at.saturating_duration_since(Instant::now()));
        let reports = self.reports.pipe.reader();
        let mut ends = vec![self.process.end()];
        if let Runner::Shell { shell, .. } = &self.runner
            && shell.pid.is_some()
        {
            ends.push(shell.end());
        }
        if !patience.is_zero() {
            let limit = limit.map_or(patience, |limit| limit.min(patience));
            return wait(&[reports], &ends, Some(limit));
        }
        let mut fds = vec![reports, self.output.reader()];
        fds.extend(self.late.readers());
        wait(&fds, &ends, limit)
    }

    /// The error to answer with, if the event failed.
    fn failure(&self, progress: &mut Progress<'_>) -> Option<FunctionError> {
        let end = progress.end.take().unwrap_or_default();
        if let Some(error) = progress.error.take() {
            return Some(error);
        }
        if end.status == 0 {
            return None;
        }
        if self.stop.asked {
            let message = format!(
                "{} was stopped {} ms before its deadline",
                self.handler,
                self.stop.margin.as_millis()
            );
            return Some(FunctionError::new("Function.Timeout", message));
        }
        if self.compat {
            return Some(failure::compat_error(end.status, &progress.answer));
        }
        let status = end.status;
        let told = match end.command {
            Some(_) => end,
            None => progress.detail.take().unwrap_or_default(),
        };
        Some(failure::function_error(self.handler, Failure { status, ..told }))
    }
}

impl Progress<'_> {
    fn write(&mut self, bytes: &[u8]) {
        match &mut self.stream {
            Some(stream) if !bytes.is_empty() && !self.stream_is_broken => {
                // Why it broke is what the end of the stream brings.
                self.stream_is_broken = stream.write_all(bytes).is_err();
            }
            Some(_) => {}
            None => {
                let room = MAX_ANSWER_BYTES + 1 - self.answer.len();
                self.answer.extend_from_slice(&bytes[..bytes.len().min(room)]);
            }
        }
    }
}

fn say(commands: &Pipe, text: String) -> io::Result<()> {
    rustix::io::write(commands.writer(), text.as_bytes())?;
    Ok(())
}

/// What ends the runtime.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttendError {
    #[error(transparent)]
    Client(#[from] Error),
    #[error("the pipes to bash failed")]
    Io(#[from] io::Error),
}

/// What a wait ended with.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Woken {
    /// Whether the process may have ended.
    pub(crate) has_ended: bool,
}

/// Waits until one of `fds` has something, one of those has ended whose `ends` are given, or the time
/// is up. An end that the kernel does not tell of is looked for again after a while.
pub(crate) fn wait(
    fds: &[BorrowedFd<'_>],
    ends: &[Option<BorrowedFd<'_>>],
    limit: Option<Duration>,
) -> io::Result<Woken> {
    let told = ends.iter().flatten();
    let mut poll_fds: Vec<_> =
        fds.iter().chain(told).map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
    let limit = if ends.iter().all(Option::is_some) {
        limit
    } else {
        Some(limit.unwrap_or(LOOK_AGAIN_AFTER).min(LOOK_AGAIN_AFTER))
    };
    // Rounded up: a wait that ends early would only be repeated.
    let limit = limit.map(|limit| limit + Duration::from_millis(1));
    let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
    match poll(&mut poll_fds, limit.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let is_told = poll_fds[fds.len()..].iter().any(|end| !end.revents().is_empty());
    Ok(Woken { has_ended: is_told || ends.iter().any(Option::is_none) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handler_is_asked_then_killed_and_never_when_that_is_off() {
        let now = Instant::now();
        let after = |ms| now + Duration::from_millis(ms);
        let mut stop = Stop::new(now, Duration::from_secs(3), None);
        assert_eq!(stop.due(after(2699)), None);
        assert_eq!(stop.due(after(2700)), Some(Signal::TERM));
        assert_eq!(stop.due(after(2849)), None);
        assert_eq!(stop.due(after(2850)), Some(Signal::KILL));
        assert_eq!(stop.due(after(9999)), None);
        let short = Stop::new(now, Duration::from_millis(300), None);
        assert_eq!(short.next(), Some(after(200)));
        let tiny = Stop::new(now, Duration::from_millis(100), None);
        assert_eq!(tiny.next(), Some(after(50)));
        let long = Stop::new(now, Duration::from_secs(900), None);
        assert_eq!(long.next(), Some(after(899_500)));
        let given = Stop::new(now, Duration::from_secs(3), Some(Duration::from_secs(1)));
        assert_eq!(given.next(), Some(after(2000)));
        let late = Stop::new(now, Duration::from_secs(3), Some(Duration::from_secs(9)));
        assert_eq!(late.next(), Some(now));
        let never = Stop::new(now, Duration::from_secs(3), Some(Duration::ZERO));
        assert_eq!(never.next(), None);
    }
}
