"""What the fields of the REST API's requests may hold, in the words its description uses. Owns those limits."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from nerloop.promotions import MODEL_NAME

MAX_TEXTS = 1000
MAX_CHARACTERS = 100_000  # of one text

ModelName = Annotated[str, Field(pattern=f"^{MODEL_NAME.pattern}$", description="A model (business line): medical")]
VersionName = Annotated[str, Field(max_length=90, description="A version's name: medical-v7")]
Text = Annotated[str, StringConstraints(max_length=MAX_CHARACTERS)]
Texts = Annotated[list[Text], Field(min_length=1, max_length=MAX_TEXTS)]


class Strict(BaseModel):
    """A request of which no field is ignored."""

    model_config = ConfigDict(extra="forbid")  # a misspelt field is an error, never ignored
