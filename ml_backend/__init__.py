"""The web app that Label Studio talks to. Serves predictions and takes events; trains nothing."""
