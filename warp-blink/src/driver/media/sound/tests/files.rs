//! Files that are microphones and speakers.

use std::{fs, path::Path};

use host_media::WavFormat;

use super::*;

/// 20 ms of silence at 8 kHz, 16 bits, mono.
fn wav() -> Vec<u8> {
    silence(320)
}

/// As many bytes of it.
fn silence(length: usize) -> Vec<u8> {
    let data = vec![0; length];
    let mut bytes = Vec::new();
    bytes.extend(b"RIFF");
    bytes.extend((36 + data.len() as u32).to_le_bytes());
    bytes.extend(b"WAVEfmt ");
    bytes.extend(16_u32.to_le_bytes());
    for field in [1_u16, 1] {
        bytes.extend(field.to_le_bytes());
    }
    for field in [8_000_u32, 16_000] {
        bytes.extend(field.to_le_bytes());
    }
    for field in [2_u16, 16] {
        bytes.extend(field.to_le_bytes());
    }
    bytes.extend(b"data");
    bytes.extend((data.len() as u32).to_le_bytes());
    bytes.extend(data);
    bytes
}

fn sink(path: impl AsRef<Path>) -> SinkSpec {
    SinkSpec::Wav(path.as_ref().to_owned(), WavFormat::default())
}

#[tokio::test]
async fn a_file_is_never_microphone_and_speaker_at_once_by_whatever_name() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (said, heard) = (at("said.wav"), at("heard.wav"));
    fs::write(&said, wav()).unwrap();
    fs::write(&heard, wav()).unwrap();
    fs::create_dir(at("deeper")).unwrap();
    let mut names = vec![said.clone(), folder.path().join("deeper/../said.wav")];
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(&said, at("symbolic.wav")).unwrap();
        names.push(at("symbolic.wav"));
    }
    fs::hard_link(&said, at("hard.wav")).unwrap();
    #[cfg(unix)]
    names.push(at("hard.wav"));

    let bench = Bench::new(Audio::new(SourceSpec::Wav(said.clone()), sink(&heard)));
    let ask = |command| bench.sound.clone().execute(command);
    for name in &names {
        let refused = ask(SoundCommand::Speaker(sink(name))).await;
        assert_eq!(refused, Err(MediaError::SameFile { file: name.clone() }));
        assert_eq!(fs::read(&said).unwrap(), wav(), "it holds what it held");
    }
    assert!(matches!(&lock(&bench.sound.state).audio.sink, SinkSpec::Wav(path, _) if *path == heard));
    let refused = ask(SoundCommand::Microphone(SourceSpec::Wav(heard.clone()))).await;
    assert_eq!(refused, Err(MediaError::SameFile { file: heard.clone() }));
    assert!(matches!(&lock(&bench.sound.state).audio.source, SourceSpec::Wav(path) if *path == said));
    // Other files are welcome, also one that is not there yet.
    ask(SoundCommand::Speaker(sink(at("other.wav")))).await.unwrap();
    ask(SoundCommand::Microphone(SourceSpec::Wav(heard))).await.unwrap();
    ask(SoundCommand::Speaker(sink(&said))).await.unwrap();
}

#[test]
fn a_call_does_not_begin_with_one_file_for_both() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.wav");
    fs::write(&file, wav()).unwrap();
    let refused = Audio::new(SourceSpec::Wav(file.clone()), sink(&file)).check();
    assert!(matches!(refused, Err(crate::Error::SameFile { file: named }) if named == file));
}

#[tokio::test]
async fn a_file_is_stopped_also_before_any_of_it_is_played() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("minute.wav");
    fs::write(&file, silence(60 * 16_000)).unwrap();
    let mut bench = Bench::new(tone());
    bench.open(call(1));
    bench.sends().await;
    let sound = bench.sound.clone();
    let ask = |command| sound.clone().execute(command);
    for _ in 0..3 {
        ask(SoundCommand::Play { call: call(1), file: file.clone() }).await.unwrap();
        assert_eq!(ask(SoundCommand::StopPlaying { call: call(1) }).await, Ok(()));
    }
    for _ in 0..3 {
        bench.told(|input| matches!(input, MediaInput::Played { .. }).then_some(())).await;
    }
    assert!(ask(SoundCommand::StopPlaying { call: call(1) }).await.is_err(), "none is played");
    bench.hang_up(call(1)).await;
}

/// A microphone that does not answer: a pipe that nobody writes into.
#[cfg(target_os = "linux")]
mod pipes {
    use std::{
        fs::{File, OpenOptions},
        io::Write,
        os::unix::fs::OpenOptionsExt,
        path::PathBuf,
        process::Command,
    };

    use super::*;

    /// From `fcntl.h`.
    const O_NONBLOCK: i32 = 0o4000;

    fn pipe(folder: &Path) -> PathBuf {
        let path = folder.join("pipe.wav");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        path
    }

    /// The end to write into, once somebody opens the other end. They wait for a header then.
    async fn opened(path: &Path) -> File {
        let open = || OpenOptions::new().write(true).custom_flags(O_NONBLOCK).open(path);
        let opens = async {
            loop {
                match open() {
                    Ok(file) => return file,
                    Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
                }
            }
        };
        tokio::time::timeout(STUCK, opens).await.expect("somebody opens it")
    }

    /// A header that promises nothing: a pipe has no length.
    fn header() -> Vec<u8> {
        let mut bytes = wav();
        bytes.truncate(44);
        bytes[4..8].copy_from_slice(&36_u32.to_le_bytes());
        bytes[40..44].copy_from_slice(&0_u32.to_le_bytes());
        bytes
    }

    #[tokio::test]
    async fn nothing_leaves_after_a_hang_up_while_the_microphone_is_being_opened() {
        let folder = tempfile::tempdir().unwrap();
        let path = pipe(folder.path());
        let mut bench = Bench::new(Audio::new(SourceSpec::Wav(path.clone()), SinkSpec::Null));
        bench.open(call(1));
        let mut microphone = opened(&path).await;
        let sound = bench.sound.clone();
        let runtime = tokio::runtime::Handle::current();
        let closed = promptly(move || {
            let _runtime = runtime.enter();
            sound.close(Some(call(1))).expect("it is wanted")
        })
        .await;
        microphone.write_all(&header()).unwrap();
        tokio::time::timeout(STUCK, closed).await.expect("it goes on by itself").unwrap();
        assert_eq!(bench.sent(), 0);
        let device = |event| matches!(event, MediaEvent::Input(MediaInput::Device { .. }));
        while let Ok(event) = bench.events.try_recv() {
            assert!(!device(event), "no device is in use");
        }
    }

    #[tokio::test]
    async fn a_microphone_that_is_being_chosen_keeps_nobody_from_hanging_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = pipe(folder.path());
        let bench = Bench::new(tone());
        bench.open(call(1));
        bench.sends().await;
        let chosen = tokio::spawn(
            bench.sound.clone().execute(SoundCommand::Microphone(SourceSpec::Wav(path.clone()))),
        );
        let mut microphone = opened(&path).await;
        bench.hang_up(call(1)).await;
        microphone.write_all(&header()).unwrap();
        drop(microphone);
        chosen.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn what_is_chosen_while_an_engine_starts_is_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = pipe(folder.path());
        let mut bench = Bench::new(Audio::new(SourceSpec::Wav(path.clone()), SinkSpec::Null));
        bench.open(call(1));
        let mut microphone = opened(&path).await;
        bench.sound.clone().execute(SoundCommand::Microphone(SourceSpec::Tone)).await.unwrap();
        microphone.write_all(&header()).unwrap();
        drop(microphone);
        bench
            .told(|input| match input {
                MediaInput::Device { kind: DeviceKind::Microphone, name: Some(name), .. } => {
                    (name == "tone").then_some(())
                }
                _ => None,
            })
            .await;
        bench.hang_up(call(1)).await;
    }
}
