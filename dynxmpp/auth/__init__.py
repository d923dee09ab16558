"""Who an account is: authentication methods and SCRAM records."""
