"""IAM's users: who is inactive, who was disabled, and how a user is enabled again."""
