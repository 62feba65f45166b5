//! Manual pages and shell completions, from the declarations that `--help` is printed from.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Command;
use clap_complete::Shell;

/// Shells with completions.
const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

/// Writes the manual pages of a program and of its subcommands (`<name>.1`, `<name>-<subcommand>.1`) and its completions
/// (`<name>.bash`, `_<name>`, `<name>.fish`) into a folder, which is made. They depend on nothing but the declarations. The
/// exit code is 1 when a file could not be written.
#[expect(clippy::print_stderr, reason = "a command that packages are made with; nothing is logged")]
pub fn write(command: Command, folder: &Path) -> ExitCode {
    let name = command.get_name().to_owned();
    match files(command, folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name} manual: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn files(mut command: Command, folder: &Path) -> anyhow::Result<()> {
    let context = || format!("write to {}", folder.display());
    std::fs::create_dir_all(folder).with_context(context)?;
    let name = command.get_name().to_owned();
    for shell in SHELLS {
        clap_complete::generate_to(shell, &mut command, &name, folder).with_context(context)?;
    }
    clap_mangen::generate_to(command, folder).with_context(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_and_every_shell_completions() {
        let folder = tempfile::tempdir().unwrap();
        let command =
            Command::new("daemon").about("Does it.").subcommand(Command::new("look").about("Looks."));
        let hidden = Command::new("manual").hide(true);
        files(command.subcommand(hidden), folder.path()).unwrap();
        let mut names: Vec<String> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.contains("help"))
            .collect();
        names.sort();
        assert_eq!(names, ["_daemon", "daemon-look.1", "daemon.1", "daemon.bash", "daemon.fish"]);
        let page = std::fs::read_to_string(folder.path().join("daemon.1")).unwrap();
        assert!(page.contains("Does it.") && page.contains("daemon\\-look(1)"), "{page}");
    }
}
