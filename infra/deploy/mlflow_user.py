"""Make a user of an MLflow server with basic authentication: `python -m infra.deploy.mlflow_user NAME`.

Asks as MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, who must be an administrator; the new user's password
stands in STILLROOM_NEW_PASSWORD. A user who is there already gets that password, so that a changed file of secrets takes
effect.
"""

from __future__ import annotations

import os
import sys

from infra.errors import UsageError
from infra.servers.tracking import quiet, tracking_uri

PASSWORD = "STILLROOM_NEW_PASSWORD"


def make_user(uri: str, name: str, password: str) -> str:
    """Create a user, or set its password; says which.

    Raises:
        UsageError: the server refuses, has no such authentication, or finds the password too short.
    """
    with quiet():
        from mlflow.exceptions import MlflowException
        from mlflow.server import get_app_client

        client = get_app_client("basic-auth", tracking_uri=uri)
        try:
            client.create_user(name, password)
            return f"made user {name}"
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise UsageError(f"MLflow does not make user {name}: {str(error).partition(chr(10))[0]}") from None
        client.update_user_password(name, password)
        return f"user {name} is there and has the given password"


if __name__ == "__main__":
    try:
        if len(sys.argv) != 2 or not os.environ.get(PASSWORD):
            raise UsageError(f"python -m infra.deploy.mlflow_user NAME, with the new user's password in {PASSWORD}")
        print(make_user(tracking_uri(), sys.argv[1], os.environ[PASSWORD]))
    except UsageError as wrong:
        sys.exit(f"error: {wrong}")
