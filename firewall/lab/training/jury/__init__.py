"""Train the jury: networks that give a second opinion on the classifier's label."""
