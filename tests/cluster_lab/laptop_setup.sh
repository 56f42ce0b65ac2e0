# Runs as root in the node that is the user's own machine, with the keys of the pretended cloud.
set -e
home=/home/ubuntu
install -d -o ubuntu -g ubuntu -m 700 $home/.aws $home/.ssh
printf '[default]\nregion = eu-central-1\nendpoint_url = http://172.31.0.1:5000\n' > $home/.aws/config
printf '[default]\naws_access_key_id = testing\naws_secret_access_key = testing\n' > $home/.aws/credentials
chown -R ubuntu: $home/.aws
