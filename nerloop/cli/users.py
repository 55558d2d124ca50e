"""`nerloop user`: who may use the console and the API."""

import click
from rich.console import Console
from rich.table import Table

from nerloop.cli.console import done, say
from nerloop.settings import Settings
from nerloop.users import ROLES, Role, Users

console = Console(stderr=True)


@click.group()
def user() -> None:
    """Say who may use the console and the REST API: names, roles and tokens.

    A viewer reads, predicts and corrects; an operator also trains, promotes and rolls back. They are kept, the tokens
    hashed, in users.json in the home folder (NERLOOP_HOME) of each machine that runs an ML backend. All accounts of
    Label Studio may log in to the console, as viewers unless a user of that e-mail address is an operator.
    """


@user.command()
@click.argument("name")
@click.option("--role", type=click.Choice(ROLES), default="viewer", show_default=True, help="What the user may do.")
def add(name: str, role: Role) -> None:
    """Add a user and print the token, which is shown only now.

    For a name that is there already the role changes, and the token before is worth nothing any more.

    \b
    nerloop user add li@example.com --role operator      an account of Label Studio's; the token may be thrown away
    TOKEN=$(nerloop user add lina --role operator)
    curl -H "Authorization: Bearer $TOKEN" http://127.0.0.1:9090/api/v1/models
    """
    token = _users().add(name, role)
    done(console, f"{name} is {'an operator' if role == 'operator' else 'a viewer'}, with this token:")
    click.echo(token)


@user.command("list")
def list_users() -> None:
    """List the users and their roles.

    \b
    nerloop user list
    """
    users = _users().all()
    if not users:
        say(console, "There are no users; `nerloop user add NAME --role operator` makes one.")
        return
    table = Table("name", "role")
    for one in users:
        table.add_row(one.name, one.role)
    Console().print(table)


@user.command()
@click.argument("name")
def remove(name: str) -> None:
    """Remove a user; the token is worth nothing any more, at once.

    \b
    nerloop user remove lina
    """
    _users().remove(name)
    done(console, f"{name} is removed")


def _users() -> Users:
    return Users(Settings.load().users_file)
